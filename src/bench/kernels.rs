//! Time of each kernel variant at given shapes, checked against the reference,
//! as a share of what the adapter can do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::roofline::{Bound, Roofline, net_ns};
use super::statistics::Spread;
use super::timing::{Budget, Clock, Stopwatch};
use crate::engine::CancelFlag;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::{self, Choices};
use crate::tune::cases::Case;
use crate::tune::{Prepared, Probe};

/// Whether a kernel finds its inputs in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// The same buffers in each repetition, nothing else between.
    Warm,
    /// Before each repetition a copy of [`KernelOptions::cold_bytes`] has passed
    /// through the caches.
    Cold,
}

impl Cache {
    /// The name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cache::Warm => "warm",
            Cache::Cold => "cold",
        }
    }
}

/// How kernels are measured.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelOptions {
    /// Samples of a row, as long as `max_time` lasts.
    pub repetitions: usize,
    /// Time of a row's samples.
    pub max_time: Duration,
    /// Which caches to measure with.
    pub caches: Vec<Cache>,
    /// Bytes read and written that make caches cold: twice the largest cache or
    /// more.
    pub cold_bytes: u64,
    /// Bytes that the probes of bandwidth read, and that copies write; `None` for
    /// what suits the adapter.
    pub probe_bytes: Option<u64>,
    /// Takes the host's time even where the device has timestamps.
    pub wall: bool,
}

impl Default for KernelOptions {
    fn default() -> Self {
        KernelOptions {
            repetitions: 50,
            max_time: Duration::from_secs(1),
            caches: vec![Cache::Warm, Cache::Cold],
            cold_bytes: 128 << 20,
            probe_bytes: None,
            wall: false,
        }
    }
}

/// A variant of a case's kernels that the device runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name that reports print.
    pub name: String,
    choices: Choices,
}

/// One variant of a case with a cache in one state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelFigures {
    /// The operation.
    pub op: String,
    /// The model whose shape it is; empty for a free shape.
    pub model: String,
    /// Operation, shape, types and flags.
    pub case: String,
    /// The variant.
    pub variant: String,
    /// State of the caches.
    pub cache: Cache,
    /// What took the times.
    pub clock: Clock,
    /// Samples.
    pub n_samples: usize,
    /// Median time.
    pub median_ns: f64,
    /// Tenth percentile.
    pub p10_ns: f64,
    /// Ninetieth percentile.
    pub p90_ns: f64,
    /// Part of a wall time that is the submit's and not the kernel's: subtracted
    /// for the rates. 0 of the GPU's clock.
    pub overhead_ns: f64,
    /// Bytes that the case must move: [`Case::cost`].
    pub bytes: u64,
    /// Its floating-point operations.
    pub flops: u64,
    /// GB (10^9 bytes) a second; none where the overhead hides the kernel.
    pub gb_per_second: Option<f64>,
    /// GFLOP (10^9 operations) a second.
    pub gflop_per_second: Option<f64>,
    /// What bounds the case on this adapter.
    pub bound: Bound,
    /// The least time that the roofline permits, as percent of the time taken.
    /// A warm kernel whose data stays in a cache may exceed 100.
    pub roofline_percent: Option<f64>,
}

/// [`KernelFigures`] with all samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRow {
    /// What the samples say.
    #[serde(flatten)]
    pub figures: KernelFigures,
    /// Nanoseconds of each repetition.
    pub samples_ns: Vec<u64>,
}

/// What became of a candidate.
#[derive(Clone, Debug)]
pub enum Measured {
    /// A row for each state of the caches.
    Rows(Vec<KernelRow>),
    /// Its results are wrong, so that it was not timed: how, in words.
    Wrong(String),
}

/// Measures kernels on a device whose roofline is known.
pub struct KernelBench<'g> {
    gpu: &'g Gpu,
    options: KernelOptions,
    stopwatch: Stopwatch<'g>,
    roofline: Roofline,
    /// Fills the caches with other bytes.
    evict: Option<Probe>,
}

impl<'g> KernelBench<'g> {
    /// Measures the roofline; `progress` hears what runs.
    ///
    /// # Errors
    /// As [`Roofline::measure`].
    pub fn new(
        gpu: &'g Gpu,
        options: KernelOptions,
        cancel: CancelFlag,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let mut stopwatch = Stopwatch::new(gpu, options.wall, cancel)?;
        let budget = Budget { repetitions: options.repetitions, max_time: options.max_time };
        let roofline = Roofline::measure(gpu, &mut stopwatch, budget, options.probe_bytes, progress)?;
        let evict = if options.caches.contains(&Cache::Cold) {
            // Half of it is read, half is written.
            let half = options.cold_bytes / 2 / 16 * 16;
            let room = gpu.max_binding_bytes().saturating_sub(4096) / 16 * 16;
            Some(Probe::copy(gpu, roofline.best_copy(), half.clamp(16, room) as usize)?)
        } else {
            None
        };
        Ok(KernelBench { gpu, options, stopwatch, roofline, evict })
    }

    /// What the adapter can do.
    #[must_use]
    pub fn roofline(&self) -> &Roofline {
        &self.roofline
    }

    /// Bytes that pass through the caches before a cold repetition; 0 where none
    /// is measured.
    #[must_use]
    pub fn cold_bytes(&self) -> u64 {
        self.evict.as_ref().map_or(0, Probe::bytes)
    }

    /// The variants of `case` that the device runs.
    #[must_use]
    pub fn candidates(&self, case: &Case) -> Vec<Candidate> {
        candidates(self.gpu, case)
    }

    /// Checks a candidate against the reference, then times it.
    ///
    /// # Errors
    /// [`crate::Error::Limits`] for a shape that the device cannot hold,
    /// [`crate::Error::Cancelled`], other errors of the device.
    pub fn measure(&mut self, model: &str, case: &Case, candidate: &Candidate) -> Result<Measured> {
        let prepared = prepare(self.gpu, case, candidate)?;
        let outcome = prepared.check(self.gpu)?;
        if !outcome.passed() {
            return Ok(Measured::Wrong(format!("{case} [{}]: {}", candidate.name, outcome.fault())));
        }
        let budget = Budget { repetitions: self.options.repetitions, max_time: self.options.max_time };
        let mut rows = Vec::new();
        for &cache in &self.options.caches {
            let before = match cache {
                Cache::Warm => None,
                Cache::Cold => self.evict.as_ref().map(Probe::dispatches),
            };
            let samples_ns = self.stopwatch.time(prepared.dispatches(), before, budget)?;
            rows.push(self.row(model, case, candidate, cache, samples_ns));
        }
        Ok(Measured::Rows(rows))
    }

    fn row(
        &self,
        model: &str,
        case: &Case,
        candidate: &Candidate,
        cache: Cache,
        samples_ns: Vec<u64>,
    ) -> KernelRow {
        let cost = case.cost();
        let name = case.to_string();
        let Spread { median_ns, p10_ns, p90_ns } = Spread::of(&samples_ns);
        let clock = self.stopwatch.clock();
        let overhead_ns = if clock == Clock::Wall { self.roofline.overhead_ns } else { 0.0 };
        let net = net_ns(clock, median_ns, overhead_ns);
        let (least_ns, bound) = self.roofline.least_ns(cost);
        let figures = KernelFigures {
            op: name.split(' ').next().unwrap_or_default().to_owned(),
            model: model.to_owned(),
            case: name,
            variant: candidate.name.clone(),
            cache,
            clock,
            n_samples: samples_ns.len(),
            median_ns,
            p10_ns,
            p90_ns,
            overhead_ns,
            bytes: cost.bytes,
            flops: cost.flops,
            gb_per_second: net.map(|ns| cost.bytes as f64 / ns),
            gflop_per_second: net.filter(|_| cost.flops > 0).map(|ns| cost.flops as f64 / ns),
            bound,
            roofline_percent: net.map(|ns| 100.0 * least_ns / ns),
        };
        KernelRow { figures, samples_ns }
    }
}

/// The one place that knows how variants are named and chosen.
fn candidates(gpu: &Gpu, case: &Case) -> Vec<Candidate> {
    let device = gpu.capabilities();
    let forced = |implementation: &'static kernels::Candidate| {
        let choices = Choices::new(&device, &[implementation]).ok()?;
        Some(Candidate { name: implementation.name.to_owned(), choices })
    };
    let mut all: Vec<_> = case.candidates(&device).into_iter().filter_map(forced).collect();
    if all.is_empty() {
        // The operation has a single implementation.
        let only = Choices::new(&device, &[]).ok();
        all.extend(only.map(|choices| Candidate { name: "only".to_owned(), choices }));
    }
    all
}

fn prepare(gpu: &Gpu, case: &Case, candidate: &Candidate) -> Result<Prepared> {
    case.prepare(gpu, &candidate.choices)
}
