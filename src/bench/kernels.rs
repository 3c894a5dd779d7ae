//! Times each kernel variant at given shapes, checks it against the reference, and
//! expresses its speed as a share of the adapter's limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::probes::Probe;
use super::roofline::{Bound, Roofline, net_ns};
use super::shapes::Subject;
use super::statistics::Spread;
use super::timing::{Budget, Clock, Stopwatch};
use crate::conformance::Prepared;
use crate::conformance::cases::Case;
use crate::engine::CancelFlag;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::{self, Choices};

/// Whether a kernel's inputs are in the caches before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Every repetition uses the same buffers and nothing runs in between.
    Warm,
    /// A copy of [`KernelOptions::cold_bytes`] passes through the caches before each
    /// repetition.
    Cold,
}

impl Cache {
    /// Returns the name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cache::Warm => "warm",
            Cache::Cold => "cold",
        }
    }
}

/// Options of a kernel measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelOptions {
    /// Samples per row, if `max_time` allows them.
    pub repetitions: usize,
    /// Maximum time for the samples of one row.
    pub max_time: Duration,
    /// Cache states to measure with.
    pub caches: Vec<Cache>,
    /// Number of bytes, read and written, that evict the inputs from the caches. Use at
    /// least twice the largest cache.
    pub cold_bytes: u64,
    /// Number of bytes that the bandwidth probes read, and that the copies also write;
    /// `None` for a size that suits the adapter.
    pub probe_bytes: Option<u64>,
    /// Uses the host's clock even if the device has timestamps.
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

/// A kernel variant that the device can run for a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name that reports print.
    pub name: String,
    choices: Choices,
}

/// Measurements of one variant of a case with one cache state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelFigures {
    /// Name of the operation.
    pub op: String,
    /// Model that the shape belongs to; empty for a free shape.
    pub model: String,
    /// Operation, shape, types and flags as text.
    pub case: String,
    /// Name of the variant.
    pub variant: String,
    /// Cache state.
    pub cache: Cache,
    /// Clock that took the times.
    pub clock: Clock,
    /// Number of samples.
    pub n_samples: usize,
    /// Median time.
    pub median_ns: f64,
    /// Tenth percentile.
    pub p10_ns: f64,
    /// Ninetieth percentile.
    pub p90_ns: f64,
    /// The part of a wall time that belongs to the submit and not to the kernel. The
    /// rates exclude it. It is 0 for the GPU's clock.
    pub overhead_ns: f64,
    /// Bytes that the case must move, from [`Case::cost`].
    pub bytes: u64,
    /// Floating-point operations of the case.
    pub flops: u64,
    /// Throughput in GB (10^9 bytes) per second; `None` if the submit overhead hides the
    /// kernel's time.
    pub gb_per_second: Option<f64>,
    /// Throughput in GFLOP (10^9 operations) per second. It is also `None` if the case
    /// has no such operations.
    pub gflop_per_second: Option<f64>,
    /// Resource that bounds the case on this adapter.
    pub bound: Bound,
    /// Minimum time by the roofline, as a percentage of the measured time. A warm kernel
    /// whose data stays in a cache may exceed 100.
    pub roofline_percent: Option<f64>,
}

/// [`KernelFigures`] with all samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRow {
    /// Figures derived from the samples.
    #[serde(flatten)]
    pub figures: KernelFigures,
    /// Nanoseconds of each repetition.
    pub samples_ns: Vec<u64>,
}

/// Result of measuring a candidate.
#[derive(Clone, Debug)]
pub enum Measured {
    /// One row for each cache state.
    Rows(Vec<KernelRow>),
    /// The results are wrong, so the candidate was not timed. The text describes the
    /// fault.
    Wrong(String),
}

/// A benchmark of kernels on a device with a known roofline.
pub struct KernelBench<'g> {
    gpu: &'g Gpu,
    options: KernelOptions,
    stopwatch: Stopwatch<'g>,
    roofline: Roofline,
    /// Copy that evicts a kernel's data from the caches; only for cold measurements.
    evict: Option<Probe>,
}

impl<'g> KernelBench<'g> {
    /// Opens a benchmark and measures the roofline. `progress` receives the name of each
    /// probe before it runs.
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
            // The copy reads one half of the bytes and writes the other.
            let half = options.cold_bytes / 2 / 16 * 16;
            let max_bytes = gpu.max_binding_bytes().saturating_sub(4096) / 16 * 16;
            Some(Probe::copy(gpu, roofline.best_copy(), half.clamp(16, max_bytes) as usize)?)
        } else {
            None
        };
        Ok(KernelBench { gpu, options, stopwatch, roofline, evict })
    }

    /// Returns the measured limits of the adapter.
    #[must_use]
    pub fn roofline(&self) -> &Roofline {
        &self.roofline
    }

    /// Returns the bytes that pass through the caches before a cold repetition; 0 if only
    /// warm caches are measured.
    #[must_use]
    pub fn cold_bytes(&self) -> u64 {
        self.evict.as_ref().map_or(0, Probe::bytes)
    }

    /// Returns the variants of `subject` that the device can run.
    #[must_use]
    pub fn candidates(&self, subject: &Subject) -> Vec<Candidate> {
        candidates(self.gpu, &subject.case)
    }

    /// Checks a candidate against the reference and times it if it is correct.
    ///
    /// # Errors
    /// [`crate::Error::Limits`] for a shape that the device cannot hold,
    /// [`crate::Error::Cancelled`], and other errors of the device.
    pub fn measure(&mut self, subject: &Subject, candidate: &Candidate) -> Result<Measured> {
        let (model, case) = (subject.model(), &subject.case);
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
        let (minimum_ns, bound) = self.roofline.minimum_ns(cost);
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
            roofline_percent: net.map(|ns| 100.0 * minimum_ns / ns),
        };
        KernelRow { figures, samples_ns }
    }
}

/// Returns the device's variants of `case`. No other function names and forces variants.
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
