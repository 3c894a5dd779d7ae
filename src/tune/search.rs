//! The search: which implementation of each operation is the fastest one here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Shapes;
use super::bed::{Bed, Share};
use super::canary::{self, Dropped};
use super::statistics::{is_better, quantile};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Strategy, Timestamps};
use crate::kernels::{Candidate, Choices, Op};
use crate::tensor::DType;

/// How long a search may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Nothing is begun after this time; what is under way, such as the driver's
    /// compilation of a kernel, ends first.
    pub time: Duration,
    /// Times also what a software adapter is known to be slow with, and takes more
    /// samples of each candidate.
    pub full: bool,
}

impl Budget {
    /// The budget of a search that nobody asked for.
    pub const USUAL: Budget = Budget { time: Duration::from_secs(2), full: false };
    /// The budget of a thorough one.
    pub const FULL: Budget = Budget { time: Duration::from_secs(60), full: true };

    fn rounds(self) -> usize {
        if self.full { 50 } else { 15 }
    }
}

/// What a search is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is checked or timed.
    pub candidate: &'static Candidate,
    /// The part of the time that is over, 0 to 1.
    pub done: f64,
}

/// A candidate's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Which one.
    pub candidate: &'static Candidate,
    /// Nanoseconds of the operation in one step of decode or one chunk of prefill:
    /// the median.
    pub median_ns: f64,
    /// Samples; a candidate far behind has one.
    pub n_samples: usize,
}

/// What was found of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OpTuning {
    /// The operation.
    pub op: Op,
    /// What runs untuned.
    pub default: &'static Candidate,
    /// What shall run.
    pub chosen: &'static Candidate,
    /// All that were timed, the fastest first.
    pub timed: Vec<Timed>,
    /// Whether every candidate was checked and timed.
    pub complete: bool,
}

impl OpTuning {
    /// By how much the choice is faster than the default, as a factor; `None`
    /// where one of them was not timed.
    #[must_use]
    pub fn gain(&self) -> Option<f64> {
        let median = |which| self.timed.iter().find(|t| t.candidate == which).map(|t| t.median_ns);
        Some(median(self.default)? / median(self.chosen)?).filter(|gain| gain.is_finite())
    }
}

/// What a search has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// The model's operations in the order of [`Op::ALL`]; those that the time did not
    /// reach are missing.
    pub ops: Vec<OpTuning>,
    /// Whether the time reached all of them.
    pub reached_all: bool,
    /// What failed the canary.
    pub dropped: Vec<Dropped>,
    /// Whether times are the GPU's own; else the host's, submit and wait included.
    pub gpu_clock: bool,
}

impl Tuning {
    /// The implementations that shall run, one an operation.
    #[must_use]
    pub fn chosen(&self) -> Vec<&'static Candidate> {
        self.ops.iter().map(|op| op.chosen).collect()
    }

    /// Whether every candidate was checked and timed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.reached_all && self.ops.iter().all(|op| op.complete)
    }
}

/// Checks and times the implementations that the device can run, at the sizes of
/// a model. `progress` hears what is next; `cancel` ends the search between two
/// samples.
///
/// # Errors
/// [`Error::Cancelled`]; errors of the device while buffers are made. What a
/// candidate does wrong is no error: it is dropped.
pub fn run(
    gpu: &Gpu,
    shapes: &Shapes,
    budget: Budget,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Tuning> {
    run_among(gpu, shapes, budget, &|op| op.candidates().iter().collect(), progress, cancel)
}

/// As [`run`], among `candidates` of each operation instead of all of them.
///
/// # Errors
/// As [`run`].
pub fn run_among(
    gpu: &Gpu,
    shapes: &Shapes,
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
    // A step has two parts at the most.
    let timestamps = Timestamps::new(gpu, 2)?;
    tuning.gpu_clock = timestamps.is_some();
    let bed = Bed::new(gpu, shapes)?;
    let choices = Choices::new(&gpu.capabilities(), &[])?;
    let mut search = Search {
        gpu,
        shapes,
        budget,
        bed,
        choices,
        timestamps,
        started,
        look_until: started,
        until: started,
        progress,
        cancel,
    };
    let ops: Vec<Op> = Op::ALL.into_iter().filter(|&op| shapes.has(op)).collect();
    for (i, &op) in ops.iter().enumerate() {
        let left = budget.time.saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        let share = left / (ops.len() - i) as u32;
        search.look_until = Instant::now() + share / 2;
        search.until = Instant::now() + share;
        let found = search.op(op, candidates(op), &mut tuning.dropped)?;
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
    bed: Bed<'a>,
    /// The choice so far: what a candidate runs beside.
    choices: Choices,
    timestamps: Option<Timestamps>,
    started: Instant,
    /// When no further candidate of the present operation is looked at, so that
    /// there is time to compare those that were.
    look_until: Instant,
    /// When the time of the present operation is over.
    until: Instant,
    progress: &'a mut dyn FnMut(Progress),
    cancel: &'a AtomicBool,
}

/// A candidate that may be chosen.
struct Contender {
    candidate: &'static Candidate,
    shares: Vec<Share>,
    samples: Vec<f64>,
}

/// A candidate whose first sample takes that many times the best one's is not
/// timed again.
const FAR_BEHIND: f64 = 2.0;

/// A sample lasts that long at the least where the work is short, by repetition:
/// tens of timer ticks, and many times what begins and ends a pass.
const SAMPLE_NS: f64 = 300_000.0;
const REPETITIONS_MAX: f64 = 64.0;

impl Search<'_> {
    /// Checks and times the candidates of `op`, the default first.
    fn op(
        &mut self,
        op: Op,
        candidates: Vec<&'static Candidate>,
        dropped: &mut Vec<Dropped>,
    ) -> Result<OpTuning> {
        let default = self.choices.get(op);
        let mut timed: Vec<Timed> = Vec::new();
        let mut contenders: Vec<Contender> = Vec::new();
        let mut complete = true;
        // Without another choice there is nothing to time, but still to check.
        for candidate in self.in_order(default, candidates) {
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
                    if first <= FAR_BEHIND * best {
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

    /// The candidates that are checked: those that the device can run, the default
    /// in front. Software adapters are many times slower with kernels that wait at
    /// barriers (benches/record/NOTES.md): these are timed in a full search only.
    fn in_order(
        &self,
        default: &'static Candidate,
        mut candidates: Vec<&'static Candidate>,
    ) -> Vec<&'static Candidate> {
        let device = self.gpu.capabilities();
        let software = self.gpu.report().is_software() && !self.budget.full;
        candidates.retain(|candidate| {
            let known_slow = software
                && device.strategy == Strategy::PerThread
                && candidate.strategy != Strategy::PerThread;
            // Weights in f32 are to stay exact.
            let too_coarse = candidate.rounds_to_f16() && self.shapes.dtype == DType::F32;
            candidate.runs_on(&device) && !known_slow && !too_coarse
        });
        candidates.sort_by_key(|candidate| *candidate != default);
        candidates
    }

    /// Tells what is next, unless the search is cancelled.
    fn next(&mut self, candidate: &'static Candidate) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let done = self.started.elapsed().as_secs_f64() / self.budget.time.as_secs_f64();
        (self.progress)(Progress { candidate, done: done.min(1.0) });
        Ok(())
    }

    /// Records a candidate, runs it once (drivers finish their compilation then)
    /// and takes a sample.
    fn first_sample(&mut self, candidate: &'static Candidate) -> Result<(Contender, f64)> {
        let mut choices = self.choices;
        choices.set(candidate);
        let shares = self.bed.shares(candidate.op, &choices)?;
        for share in &shares {
            self.gpu.run(&share.dispatches, share.work)?;
        }
        let first = sample(self.gpu, &mut self.timestamps, &shares, 1)?;
        Ok((Contender { candidate, shares, samples: Vec::new() }, first))
    }

    /// Samples of all contenders in turn, so that what disturbs one disturbs all,
    /// until the operation's time is over.
    fn rounds(&mut self, contenders: &mut [Contender]) -> Result<()> {
        let Some(first) = contenders.first() else { return Ok(()) };
        if contenders.len() < 2 {
            return Ok(());
        }
        let once = sample(self.gpu, &mut self.timestamps, &first.shares, 1)?;
        let repetitions = (SAMPLE_NS / once.max(1.0)).clamp(1.0, REPETITIONS_MAX) as usize;
        for _ in 0..self.budget.rounds() {
            if Instant::now() >= self.until {
                break;
            }
            for contender in contenders.iter_mut() {
                self.next(contender.candidate)?;
                let time = match sample(self.gpu, &mut self.timestamps, &contender.shares, repetitions) {
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    // What the device refuses is never the fastest.
                    time => time.unwrap_or(f64::INFINITY),
                };
                contender.samples.push(time);
            }
        }
        Ok(())
    }
}

/// The contender with the best median where it is clearly better than the
/// default, else the default; the best one where the default is none.
fn choose(default: &'static Candidate, contenders: &[Contender]) -> &'static Candidate {
    let median = |contender: &Contender| quantile(&contender.samples, 0.5);
    let best = contenders.iter().min_by(|a, b| median(a).total_cmp(&median(b)));
    let own = contenders.iter().find(|contender| contender.candidate == default);
    match (best, own) {
        (Some(best), Some(own)) if !is_better(&best.samples, &own.samples) => own.candidate,
        (Some(best), _) => best.candidate,
        // Nothing passed its check: what is wrong as well is no better.
        (None, _) => default,
    }
}

/// Nanoseconds of the shares in a step: by the GPU's clock where there is one,
/// else by the host's, submit and wait included.
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
