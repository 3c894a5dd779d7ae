//! Repeated timing of recorded dispatches.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::CancelFlag;
use crate::error::{Error, Result};
use crate::gpu::{Dispatch, Encoder, Gpu, Timestamps, Work};

/// Clock that measures the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// GPU timestamps around the pass, which exclude submit and wait.
    Gpu,
    /// The host's clock, from the start of encoding until the wait returns.
    Wall,
}

impl Clock {
    /// Returns the name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Clock::Gpu => "gpu",
            Clock::Wall => "wall",
        }
    }
}

/// Condition that ends a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Number of samples to take.
    pub repetitions: usize,
    /// Time after which no further sample starts, if there are at least
    /// [`Budget::LEAST`].
    pub max_time: Duration,
}

impl Budget {
    /// Minimum number of samples, regardless of their time. A median of fewer samples is
    /// unreliable.
    pub const LEAST: usize = 3;
}

/// Recorded dispatches and their work.
pub type Recorded<'a> = (&'a [Dispatch], Work);

/// Target duration of one submit. It keeps Ctrl-C responsive, and drivers do not stop
/// such a short submit.
const SUBMIT_TIME: Duration = Duration::from_millis(50);
/// Maximum number of timed passes per submit.
const BATCH_MAX: usize = 64;

/// Takes samples on a device.
pub struct Stopwatch<'g> {
    gpu: &'g Gpu,
    timestamps: Option<Timestamps>,
    cancel: CancelFlag,
}

impl<'g> Stopwatch<'g> {
    /// Creates a stopwatch. It uses the GPU's clock if the device has one and `wall` is
    /// false, otherwise the host's clock.
    ///
    /// # Errors
    /// As [`Timestamps::new`].
    pub fn new(gpu: &'g Gpu, wall: bool, cancel: CancelFlag) -> Result<Self> {
        let timestamps = if wall { None } else { Timestamps::new(gpu, BATCH_MAX)? };
        Ok(Stopwatch { gpu, timestamps, cancel })
    }

    /// Returns the clock in use.
    #[must_use]
    pub fn clock(&self) -> Clock {
        if self.timestamps.is_some() { Clock::Gpu } else { Clock::Wall }
    }

    /// Returns the nanoseconds of each run of `timed` by the stopwatch's clock, after one
    /// untimed run. `before` runs untimed before each repetition.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; errors of the device.
    pub fn time(
        &mut self,
        timed: Recorded<'_>,
        before: Option<Recorded<'_>>,
        budget: Budget,
    ) -> Result<Vec<u64>> {
        if self.timestamps.is_none() {
            return self.wall(timed, before, budget);
        }
        self.gpu.run(timed.0, timed.1)?;
        let (mut samples, started, mut batch) = (Vec::new(), Instant::now(), 1);
        while self.goes_on(samples.len(), started, budget)? {
            let batch_started = Instant::now();
            let n = batch.min(budget.repetitions - samples.len()).max(1);
            samples.extend(self.batch(timed, before, n)?);
            batch = next_batch(n, batch_started.elapsed());
        }
        Ok(samples)
    }

    /// Measures like [`Stopwatch::time`], but always by the host's clock.
    ///
    /// # Errors
    /// As [`Stopwatch::time`].
    pub fn wall(
        &self,
        timed: Recorded<'_>,
        before: Option<Recorded<'_>>,
        budget: Budget,
    ) -> Result<Vec<u64>> {
        self.gpu.run(timed.0, timed.1)?;
        let (mut samples, started) = (Vec::new(), Instant::now());
        while self.goes_on(samples.len(), started, budget)? {
            if let Some((dispatches, work)) = before {
                self.gpu.run(dispatches, work)?;
            }
            let start = Instant::now();
            self.gpu.run(timed.0, timed.1)?;
            samples.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(samples)
    }

    fn goes_on(&self, n_samples: usize, started: Instant, budget: Budget) -> Result<bool> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let in_time = started.elapsed() < budget.max_time || n_samples < Budget::LEAST;
        Ok(n_samples < budget.repetitions && in_time)
    }

    /// Takes `n` samples in one submit.
    fn batch(&mut self, timed: Recorded<'_>, before: Option<Recorded<'_>>, n: usize) -> Result<Vec<u64>> {
        let Some(timestamps) = &mut self.timestamps else { return Ok(Vec::new()) };
        let mut encoder: Encoder = self.gpu.encoder()?;
        for index in 0..n {
            if let Some((dispatches, work)) = before {
                encoder.pass(|pass| pass.run(dispatches, work));
            }
            encoder.timed_pass(timestamps, index, |pass| pass.run(timed.0, timed.1));
        }
        let times = timestamps.submit_and_read(self.gpu, encoder, n)?;
        Ok(times.into_iter().map(|time| time.duration_ns()).collect())
    }
}

/// Returns the number of passes in the next submit, after `n` passes took `elapsed` in
/// total.
fn next_batch(n: usize, elapsed: Duration) -> usize {
    let each = elapsed.as_secs_f64() / n.max(1) as f64;
    ((SUBMIT_TIME.as_secs_f64() / each.max(1e-9)) as usize).clamp(1, BATCH_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::bench::probes::Probe;
    use crate::gpu::GpuOptions;

    #[test]
    fn batches_grow_to_the_duration_of_a_submit() {
        assert_eq!(next_batch(1, Duration::from_millis(200)), 1);
        assert_eq!(next_batch(1, Duration::from_millis(10)), 5);
        assert_eq!(next_batch(10, Duration::from_millis(20)), 25);
        assert_eq!(next_batch(4, Duration::ZERO), BATCH_MAX);
    }

    #[test]
    fn both_clocks_follow_the_budget() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        let probe = Probe::steps(&gpu, 2, true).unwrap();
        let work = probe.dispatches();
        let long = Budget { repetitions: 70, max_time: Duration::from_secs(600) };
        let none = Budget { repetitions: 70, max_time: Duration::ZERO };
        for wall in [false, true] {
            let cancel = Arc::new(AtomicBool::new(false));
            let mut stopwatch = Stopwatch::new(&gpu, wall, cancel.clone()).unwrap();
            let clock = if gpu.report().timestamps && !wall { Clock::Gpu } else { Clock::Wall };
            assert_eq!(stopwatch.clock(), clock);
            assert_eq!(stopwatch.time(work, Some(work), long).unwrap().len(), 70);
            // A batch on the GPU's clock may return more than the minimum number of
            // samples.
            let least = stopwatch.time(work, None, none).unwrap().len();
            assert!((Budget::LEAST..=BATCH_MAX + 2).contains(&least), "{least}");
            cancel.store(true, Ordering::Relaxed);
            assert!(matches!(stopwatch.time(work, None, long), Err(Error::Cancelled)));
        }
    }
}
