//! Measurements that take a few seconds: the adapter's probes and a model's rates. Each
//! has a share of the time, and takes fewer samples than a full benchmark.

use std::time::{Duration, Instant};

use super::model::{ModelTest, run_model_test};
use super::probes::Probe;
use super::roofline::{LatencyRow, ProbeRow, copy_bytes, latency_row, row};
use super::timing::{Budget, Stopwatch};
use crate::engine::{CancelFlag, Engine};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::probe_copy::{self, PackShape};
use crate::kernels::probe_read;

/// Speed of the adapter's memory and queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QuickProbes {
    /// The fastest of the copies that were tried.
    pub copy: Option<ProbeRow>,
    /// The fastest of the reads that were tried.
    pub read: Option<ProbeRow>,
    /// One submit with a single minimal dispatch.
    pub submit: LatencyRow,
    /// Many minimal dispatches in one pass; each depends on the one before it.
    pub dispatches: LatencyRow,
}

/// Dispatches per pass. With this many, the pass's own start and end hardly matter.
const N_DISPATCHES: usize = 64;
/// Maximum samples per figure. More samples would not visibly change the median.
const REPETITIONS: usize = 50;

/// Measures the probes in about `time`. Copies and reads get two fifths each, and at
/// least one shape of each is tried. Each of the two dispatch probes gets a tenth for
/// every clock that measures it. `progress` receives the name of each probe before it
/// runs.
///
/// # Errors
/// [`crate::Error::Cancelled`] by the stopwatch's flag; [`crate::Error::Gpu`] if a
/// probe's result is wrong; other errors of the device.
pub fn quick_probes(
    gpu: &Gpu,
    stopwatch: &mut Stopwatch<'_>,
    time: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<QuickProbes> {
    let budget = Budget { repetitions: REPETITIONS, max_time: time / 10 };
    progress("dispatches");
    let submit = latency_row(gpu, stopwatch, budget, 1, true)?;
    let dispatches = latency_row(gpu, stopwatch, budget, N_DISPATCHES, true)?;
    let bytes = copy_bytes(gpu, None);
    let mut best = |name: &'static str, shapes: &[PackShape], ready: Ready| -> Result<Option<ProbeRow>> {
        let (started, share) = (Instant::now(), time * 2 / 5);
        let budget = Budget { max_time: share / 8, ..budget };
        let mut best: Option<ProbeRow> = None;
        // Software adapters start with the last shapes, which suit them.
        let mut order = shapes.to_vec();
        if gpu.report().is_software() {
            order.reverse();
        }
        for shape in order {
            if best.is_some() && started.elapsed() >= share {
                break;
            }
            progress(&format!("{name} {}", shape.name));
            let probe = ready(gpu, shape, bytes)?;
            let found = row(gpu, stopwatch, budget, submit.wall.median_ns, (name, shape.name), &probe)?;
            if found.per_second > best.as_ref().map_or(0.0, |best| best.per_second) {
                best = Some(found);
            }
        }
        Ok(best)
    };
    let copy = best("copy", &probe_copy::SHAPES, Probe::copy)?;
    let read = best("read", &probe_read::SHAPES, Probe::read)?;
    Ok(QuickProbes { copy, read, submit, dispatches })
}

/// A constructor of a probe.
type Ready = fn(&Gpu, PackShape, usize) -> Result<Probe>;

/// Returns the mean tokens per second of `test`. The test repeats as often as `time`
/// allows, but runs at least once.
///
/// # Errors
/// As [`run_model_test`].
pub fn quick_rate(engine: &Engine, test: ModelTest, time: Duration, cancel: &CancelFlag) -> Result<f64> {
    let started = Instant::now();
    let mut session = engine.session();
    let first = run_model_test(engine, &mut session, test, 1, cancel, &mut |_| {})?;
    let each = first.nanoseconds().0.max(1.0);
    let left = time.saturating_sub(started.elapsed()).as_nanos() as f64;
    let repetitions = ((left / each) as usize).min(REPETITIONS);
    if repetitions == 0 {
        return Ok(first.rate().0);
    }
    Ok(run_model_test(engine, &mut session, test, repetitions, cancel, &mut |_| {})?.rate().0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::error::Error;
    use crate::gpu::GpuOptions;

    #[test]
    fn each_probe_runs_once_if_there_is_no_time() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        let cancel = Arc::new(AtomicBool::new(false));
        let mut stopwatch = Stopwatch::new(&gpu, false, cancel.clone()).unwrap();
        let mut seen = Vec::new();
        let mut progress = |what: &str| seen.push(what.to_owned());
        let found = quick_probes(&gpu, &mut stopwatch, Duration::ZERO, &mut progress).unwrap();
        assert!(found.copy.unwrap().per_second > 0.0 && found.read.unwrap().per_second > 0.0);
        assert_eq!((found.submit.n_dispatches, found.dispatches.n_dispatches), (1, N_DISPATCHES));
        assert!(found.dispatches.wall.median_ns > 0.0);
        assert!(seen.len() == 3 && seen[0] == "dispatches" && seen[1].starts_with("copy "), "{seen:?}");
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        let cancelled = quick_probes(&gpu, &mut stopwatch, Duration::ZERO, &mut |_| {});
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }
}
