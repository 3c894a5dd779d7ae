//! A benchmark that takes a few seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::surroundings::shown;
use super::{Step, guarded};
use crate::bench::{Clock, Stopwatch, quick_probes};
use crate::engine::CancelFlag;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::ModelOptions;

/// Results of the benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Benchmark {
    /// Seconds that the benchmark took.
    pub seconds: f64,
    /// Clock that timed the probes.
    pub clock: Option<Clock>,
    /// Bytes read and written per second by the fastest copy.
    pub copy_bytes_per_second: Option<f64>,
    /// Bytes per second of the fastest read.
    pub read_bytes_per_second: Option<f64>,
    /// Time of a minimal dispatch among many in one pass, in nanoseconds.
    pub dispatch_ns: Option<f64>,
    /// Time of a submit with one minimal dispatch, including the wait, in nanoseconds by
    /// the host's clock.
    pub submit_ns: Option<f64>,
    /// Rates of the demo model.
    pub model: Option<ModelRates>,
    /// Measurements that were skipped, with the reason.
    pub notes: Vec<String>,
}

/// Rates of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelRates {
    /// Name of the model.
    pub name: String,
    /// Number of tokens prefilled at once.
    pub n_prompt: usize,
    /// Prefill rate in tokens per second.
    pub prefill_tokens_per_second: f64,
    /// Number of tokens decoded one by one.
    pub n_gen: usize,
    /// Decode rate in tokens per second.
    pub decode_tokens_per_second: f64,
}

impl Benchmark {
    /// Measures for about `time`: half of it on the probes, half on the demo model. The
    /// model runs only if its kernels are `sound`. The second returned value lists the
    /// failures.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(super) fn run(
        gpu: &Arc<Gpu>,
        options: &ModelOptions,
        time: Duration,
        sound: bool,
        step: &mut Step<'_>,
    ) -> Result<(Self, Vec<String>)> {
        let (started, cancel) = (Instant::now(), step.cancel);
        let mut faults = Vec::new();
        let mut found = Benchmark {
            seconds: 0.0,
            clock: None,
            copy_bytes_per_second: None,
            read_bytes_per_second: None,
            dispatch_ns: None,
            submit_ns: None,
            model: None,
            notes: Vec::new(),
        };
        step.next("benchmark: probes")?;
        let probes = guarded("benchmark", || {
            let mut stopwatch = Stopwatch::new(gpu, false, cancel.clone())?;
            let probes = quick_probes(gpu, &mut stopwatch, time / 2, &mut |_| {})?;
            Ok((stopwatch.clock(), probes))
        });
        match probes {
            Ok((clock, probes)) => {
                let rate = |row: Option<crate::bench::ProbeRow>| row.map(|row| row.per_second);
                found.clock = Some(clock);
                found.copy_bytes_per_second = rate(probes.copy);
                found.read_bytes_per_second = rate(probes.read);
                found.dispatch_ns = Some(probes.dispatches.per_dispatch_ns());
                found.submit_ns = Some(probes.submit.wall.median_ns);
            }
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => faults.push(shown(&format!("probes: {error}"))),
        }
        step.next("benchmark: demo model")?;
        let rates = || if sound { demo(gpu, options, time / 2, cancel) } else { Ok(None) };
        match guarded("benchmark", rates) {
            Ok(Some(rates)) => found.model = Some(rates),
            Ok(None) => found.notes.push(if sound { NO_DEMO } else { UNSOUND }.to_owned()),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => faults.push(shown(&format!("demo model: {error}"))),
        }
        found.seconds = started.elapsed().as_secs_f64();
        Ok((found, faults))
    }
}

const NO_DEMO: &str = "this build embeds no demo model (feature demo-model), so no token rates were measured";

const UNSOUND: &str = "a kernel in use is wrong, so no token rates were measured";

#[cfg(feature = "demo-model")]
fn demo(
    gpu: &Arc<Gpu>,
    options: &ModelOptions,
    time: Duration,
    cancel: &CancelFlag,
) -> Result<Option<ModelRates>> {
    use crate::bench::{ModelTest, quick_rate};
    use crate::engine::{Engine, ModelFiles};

    /// Tokens of the two tests. They are enough for a rate, and take a fraction of a
    /// second on two cores.
    const N_PROMPT: usize = 128;
    const N_GEN: usize = 32;

    // The requested context length is for another model.
    let options = ModelOptions { n_ctx: None, ..options.clone() };
    let mut progress = |_| match cancel.load(std::sync::atomic::Ordering::Relaxed) {
        true => std::ops::ControlFlow::Break(()),
        false => std::ops::ControlFlow::Continue(()),
    };
    let engine = Engine::load(ModelFiles::demo()?, Arc::clone(gpu), &options, &mut progress)?;
    let rate = |test| quick_rate(&engine, test, time / 2, cancel);
    Ok(Some(ModelRates {
        name: engine.files().name().to_owned(),
        n_prompt: N_PROMPT,
        prefill_tokens_per_second: rate(ModelTest { n_prompt: N_PROMPT, ..ModelTest::default() })?,
        n_gen: N_GEN,
        decode_tokens_per_second: rate(ModelTest { n_gen: N_GEN, ..ModelTest::default() })?,
    }))
}

#[cfg(not(feature = "demo-model"))]
fn demo(_: &Arc<Gpu>, _: &ModelOptions, _: Duration, _: &CancelFlag) -> Result<Option<ModelRates>> {
    Ok(None)
}
