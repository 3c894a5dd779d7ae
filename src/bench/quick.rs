//! Figures of a few seconds: the adapter's probes and a model's rates, each within
//! a share of the time, fewer samples being the price.

use std::time::{Duration, Instant};

use super::model::{ModelTest, run_model_test};
use super::roofline::{LatencyRow, ProbeRow, copy_bytes, latency_row, row};
use super::timing::{Budget, Stopwatch};
use crate::engine::{CancelFlag, Engine};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::probe_copy::{self, PackShape};
use crate::kernels::probe_read;
use crate::tune::Probe;

/// What the adapter's memory and its queue do.
#[derive(Clone, Debug, PartialEq)]
pub struct QuickProbes {
    /// The fastest copy that was tried.
    pub copy: Option<ProbeRow>,
    /// The fastest read that was tried.
    pub read: Option<ProbeRow>,
    /// A submit with a single smallest dispatch.
    pub submit: LatencyRow,
    /// Many smallest dispatches in one pass, each behind the one before.
    pub dispatches: LatencyRow,
}

/// Dispatches of a pass: more than begin and end of the pass weigh.
const N_DISPATCHES: usize = 64;
/// Samples of each figure: more do not move a median that the eye reads.
const REPETITIONS: usize = 50;

/// Measures the probes in about `time`: a fifth of it for dispatches, the rest for
/// copies and reads, of which at least one shape each is tried. `progress` hears
/// of each before it runs.
///
/// # Errors
/// [`crate::Error::Cancelled`] by the stopwatch's flag; [`crate::Error::Gpu`] when
/// a probe's result is wrong; other errors of the device.
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
        // The last shapes are those of software adapters.
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

/// Makes a probe.
type Ready = fn(&Gpu, PackShape, usize) -> Result<Probe>;

/// Tokens a second of `test` (mean), repeated as often as fits into `time`, at
/// least once.
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
    fn without_time_each_probe_is_tried_once() {
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
