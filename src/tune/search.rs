//! The search for the fastest implementation of each operation on this device.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::statistics::{is_better, quantile};
use crate::conformance::Shapes;
use crate::conformance::canary::{self, Dropped};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Strategy, Timestamps};
use crate::kernels::{Candidate, Choices, Op};
use crate::memory::MemoryPlan;
use crate::model::{Model, RecordedOp, Share, Trial};
use crate::tensor::DType;

/// Tuning budget: the limits of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Time after which nothing new starts. Work in progress, such as the driver's
    /// compilation of a kernel, is completed.
    pub time: Duration,
    /// Whether to also time kernels that are known to be slow on a software adapter, and
    /// to take more samples of each candidate.
    pub full: bool,
}

impl Budget {
    /// Budget of a search that the user did not request.
    pub const USUAL: Budget = Budget { time: Duration::from_secs(2), full: false };
    /// Budget of a thorough search.
    pub const FULL: Budget = Budget { time: Duration::from_secs(60), full: true };

    fn rounds(self) -> usize {
        if self.full { 50 } else { 15 }
    }
}

/// Progress of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Candidate that is being checked or timed.
    pub candidate: &'static Candidate,
    /// Elapsed fraction of the time, 0 to 1.
    pub done: f64,
}

/// Time of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// The candidate.
    pub candidate: &'static Candidate,
    /// Median nanoseconds of the operation in one decode step or one prefill chunk.
    pub median_ns: f64,
    /// Number of samples. It is 1 for a candidate that is far slower than the best or has
    /// no competitor.
    pub n_samples: usize,
}

/// Result of the search for one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OpTuning {
    /// The operation.
    pub op: Op,
    /// Implementation that runs untuned.
    pub default: &'static Candidate,
    /// Implementation to run.
    pub chosen: &'static Candidate,
    /// All timed candidates, the fastest first.
    pub timed: Vec<Timed>,
    /// Whether there was enough time for every candidate.
    pub complete: bool,
}

impl OpTuning {
    /// Returns the factor by which the choice is faster than the default, or `None` if
    /// either was not timed.
    #[must_use]
    pub fn gain(&self) -> Option<f64> {
        let median = |which| self.timed.iter().find(|t| t.candidate == which).map(|t| t.median_ns);
        Some(median(self.default)? / median(self.chosen)?).filter(|gain| gain.is_finite())
    }
}

/// Result of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Results for the model's operations in the order of [`Op::ALL`]. Operations that
    /// were not reached in time are missing.
    pub ops: Vec<OpTuning>,
    /// Whether all operations were reached in time.
    pub reached_all: bool,
    /// Candidates that failed the canary.
    pub dropped: Vec<Dropped>,
    /// Whether the times are from the GPU's clock. Otherwise they are from the host's
    /// clock and include submit and wait.
    pub gpu_clock: bool,
}

impl Tuning {
    /// Returns the implementations to run, one for each tuned operation.
    #[must_use]
    pub fn chosen(&self) -> Vec<&'static Candidate> {
        self.ops.iter().map(|op| op.chosen).collect()
    }

    /// Returns whether there was enough time for every candidate of every operation.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.reached_all && self.ops.iter().all(|op| op.complete)
    }
}

/// Checks the implementations that the device can run, and times them in the passes of a
/// loaded model. `held` is the part of the memory budget that the model already takes.
/// `progress` receives each candidate before it runs. `cancel` ends the search between
/// two samples.
///
/// # Errors
/// [`Error::Cancelled`]; [`Error::Budget`] if the buffers do not fit the memory budget;
/// as [`crate::model::Dims::new`]; as [`Gpu::allocate`]. A faulty candidate is not an
/// error: it is dropped.
pub fn run(
    model: &Model,
    held: MemoryPlan,
    budget: Budget,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Tuning> {
    run_among(model, held, budget, &|op| op.candidates().iter().collect(), progress, cancel)
}

/// Searches like [`run`], but only among the given `candidates` of each operation.
///
/// # Errors
/// As [`run`].
pub fn run_among(
    model: &Model,
    held: MemoryPlan,
    budget: Budget,
    candidates: &dyn Fn(Op) -> Vec<&'static Candidate>,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Tuning> {
    let mut tuning = Tuning::default();
    if budget.time.is_zero() {
        return Ok(tuning);
    }
    let started = Instant::now();
    let gpu = &*model.gpu;
    let shapes = &super::tuned_shapes(&model.config, &model.options);
    let choices = Choices::new(&gpu.capabilities(), &[])?;
    let ops: Vec<(Op, Vec<&'static Candidate>)> = Op::ALL
        .into_iter()
        .filter(|&op| shapes.has(op))
        .map(|op| (op, in_order(gpu, shapes, budget, choices.get(op), candidates(op))))
        .collect();
    let all: Vec<&'static Candidate> = ops.iter().flat_map(|(_, all)| all).copied().collect();
    let trial = Trial::new(model, held, &choices, &all)?;
    let timestamps = Timestamps::new(gpu, trial.shares_max())?;
    tuning.gpu_clock = timestamps.is_some();
    let mut search = Search {
        gpu,
        shapes,
        budget,
        trial,
        choices,
        timestamps,
        started,
        look_until: started,
        until: started,
        progress,
        cancel,
    };
    for (i, (op, candidates)) in ops.iter().enumerate() {
        let left = budget.time.saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        let share = left / (ops.len() - i) as u32;
        search.look_until = Instant::now() + share / 2;
        search.until = Instant::now() + share;
        let found = search.op(*op, candidates, &mut tuning.dropped)?;
        search.choices.set(found.chosen);
        tuning.ops.push(found);
    }
    tuning.reached_all = tuning.ops.len() == ops.len();
    Ok(tuning)
}

struct Search<'a> {
    gpu: &'a Gpu,
    shapes: &'a Shapes,
    budget: Budget,
    trial: Trial<'a>,
    /// Choices so far. While a candidate runs, the other operations use them.
    choices: Choices,
    timestamps: Option<Timestamps>,
    started: Instant,
    /// Time after which no further candidate of the current operation is tried, so that
    /// enough time remains to compare the candidates already tried.
    look_until: Instant,
    /// End of the current operation's time.
    until: Instant,
    progress: &'a mut dyn FnMut(Progress),
    cancel: &'a AtomicBool,
}

/// A candidate that may be chosen.
struct Contender {
    candidate: &'static Candidate,
    recorded: RecordedOp,
    samples: Vec<f64>,
}

/// A candidate is not timed again if its first sample takes more than this many times as
/// long as the best one.
const TOO_SLOW: f64 = 2.0;

/// Minimum nanoseconds of a sample. Shorter work is repeated. A sample then spans tens of
/// timer ticks, and the start and end of a pass hardly count.
const SAMPLE_NS: f64 = 300_000.0;
const REPETITIONS_MAX: f64 = 64.0;

impl Search<'_> {
    /// Checks and times the candidates of `op`, the default first.
    fn op(
        &mut self,
        op: Op,
        candidates: &[&'static Candidate],
        dropped: &mut Vec<Dropped>,
    ) -> Result<OpTuning> {
        let default = self.choices.get(op);
        let mut timed: Vec<Timed> = Vec::new();
        let mut contenders: Vec<Contender> = Vec::new();
        let mut complete = true;
        // A single candidate needs no timing, but it still needs the check.
        for &candidate in candidates {
            if !contenders.is_empty() && Instant::now() >= self.look_until {
                complete = false;
                break;
            }
            self.next(candidate)?;
            if let Some(fault) = canary::check(self.gpu, candidate, &self.choices, self.shapes) {
                dropped.push(fault);
                continue;
            }
            match self.first_sample(candidate) {
                Ok((contender, first)) => {
                    let best = timed.iter().map(|t| t.median_ns).fold(f64::INFINITY, f64::min);
                    timed.push(Timed { candidate, median_ns: first, n_samples: 1 });
                    if first <= TOO_SLOW * best {
                        contenders.push(contender);
                    }
                }
                Err(error) => dropped.push(Dropped { candidate, reason: error.to_string() }),
            }
        }
        self.rounds(&mut contenders)?;
        for contender in contenders.iter().filter(|contender| !contender.samples.is_empty()) {
            if let Some(timed) = timed.iter_mut().find(|t| t.candidate == contender.candidate) {
                timed.median_ns = quantile(&contender.samples, 0.5);
                timed.n_samples = contender.samples.len();
            }
        }
        timed.sort_by(|a, b| a.median_ns.total_cmp(&b.median_ns));
        let chosen = choose(default, &contenders);
        Ok(OpTuning { op, default, chosen, timed, complete })
    }

    /// Reports the next candidate to `progress`, unless the search is cancelled.
    fn next(&mut self, candidate: &'static Candidate) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let done = self.started.elapsed().as_secs_f64() / self.budget.time.as_secs_f64();
        (self.progress)(Progress { candidate, done: done.min(1.0) });
        Ok(())
    }

    /// Records a candidate, runs it once, and takes a sample. Drivers finish its
    /// compilation in the first run.
    fn first_sample(&mut self, candidate: &'static Candidate) -> Result<(Contender, f64)> {
        let mut choices = self.choices;
        choices.set(candidate);
        let recorded = self.trial.record(candidate.op, &choices)?;
        for share in &recorded.shares {
            self.gpu.run(&share.dispatches, share.work)?;
        }
        let first = sample(self.gpu, &mut self.timestamps, &recorded.shares, 1)?;
        Ok((Contender { candidate, recorded, samples: Vec::new() }, first))
    }

    /// Samples all contenders in turn until the operation's time is over, so that a
    /// disturbance affects all of them.
    fn rounds(&mut self, contenders: &mut [Contender]) -> Result<()> {
        let Some(first) = contenders.first() else { return Ok(()) };
        if contenders.len() < 2 {
            return Ok(());
        }
        let once = sample(self.gpu, &mut self.timestamps, &first.recorded.shares, 1)?;
        let repetitions = (SAMPLE_NS / once.max(1.0)).clamp(1.0, REPETITIONS_MAX) as usize;
        for _ in 0..self.budget.rounds() {
            if Instant::now() >= self.until {
                break;
            }
            for contender in contenders.iter_mut() {
                self.next(contender.candidate)?;
                let time =
                    match sample(self.gpu, &mut self.timestamps, &contender.recorded.shares, repetitions) {
                        Err(Error::Cancelled) => return Err(Error::Cancelled),
                        // A candidate that the device refuses is never the fastest.
                        time => time.unwrap_or(f64::INFINITY),
                    };
                contender.samples.push(time);
            }
        }
        Ok(())
    }
}

/// Returns the candidates to check: those that the device can run, the default first.
/// Kernels that wait at barriers are many times slower on software adapters
/// (benches/record/DECISIONS.md), so only a full search times them there.
fn in_order(
    gpu: &Gpu,
    shapes: &Shapes,
    budget: Budget,
    default: &'static Candidate,
    mut candidates: Vec<&'static Candidate>,
) -> Vec<&'static Candidate> {
    let device = gpu.capabilities();
    let software = gpu.report().is_software() && !budget.full;
    candidates.retain(|candidate| {
        let known_slow =
            software && device.strategy == Strategy::PerThread && candidate.strategy != Strategy::PerThread;
        // f32 weights must keep their precision.
        let too_coarse = candidate.rounds_to_f16() && shapes.dtype == DType::F32;
        candidate.runs_on(&device) && !known_slow && !too_coarse
    });
    candidates.sort_by_key(|candidate| *candidate != default);
    candidates
}

/// Returns the contender with the best median if it is clearly better than the default,
/// otherwise the default. If the default is not a contender, returns the best one.
fn choose(default: &'static Candidate, contenders: &[Contender]) -> &'static Candidate {
    let median = |contender: &Contender| quantile(&contender.samples, 0.5);
    let best = contenders.iter().min_by(|a, b| median(a).total_cmp(&median(b)));
    let own = contenders.iter().find(|contender| contender.candidate == default);
    match (best, own) {
        (Some(best), Some(own)) if !is_better(&best.samples, &own.samples) => own.candidate,
        (Some(best), _) => best.candidate,
        // No candidate passed its check, so no other choice would be better.
        (None, _) => default,
    }
}

/// Returns the nanoseconds of the shares in one step. They are from the GPU's clock if
/// there is one. Otherwise they are from the host's clock and include submit and wait.
fn sample(
    gpu: &Gpu,
    timestamps: &mut Option<Timestamps>,
    shares: &[Share],
    repetitions: usize,
) -> Result<f64> {
    let each: Vec<u64> = if let Some(timestamps) = timestamps {
        let mut encoder = gpu.encoder()?;
        for (i, share) in shares.iter().enumerate() {
            encoder.timed_pass(timestamps, i, |pass| {
                (0..repetitions).for_each(|_| pass.run(&share.dispatches, share.work));
            });
        }
        let times = timestamps.submit_and_read(gpu, encoder, shares.len())?;
        times.into_iter().map(|time| time.duration_ns()).collect()
    } else {
        let mut times = Vec::with_capacity(shares.len());
        for share in shares {
            let start = Instant::now();
            let mut encoder = gpu.encoder()?;
            encoder.pass(|pass| (0..repetitions).for_each(|_| pass.run(&share.dispatches, share.work)));
            gpu.finish(encoder)?;
            times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        times
    };
    let total = |(time, share): (u64, &Share)| time as f64 / repetitions as f64 * share.times;
    Ok(each.into_iter().zip(shares).map(total).sum())
}
