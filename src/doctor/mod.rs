//! A check-up of this machine. It determines whether wgpt works on the machine and how
//! fast it is. The result is one report, which an application can show and which `wgpt
//! doctor` prints.
//!
//! The check-up has no separate rules for kernels, tuning or caches. It calls the canary,
//! the selection of kernels and the probes. The verdict is a function of the findings.
//!
//! If a driver fails during the check-up, the failure becomes a line of the report, even
//! if it is a panic inside wgpu. With `panic = "abort"`, a panic ends the process.

pub(crate) mod benchmark;
pub(crate) mod kernels;
pub(crate) mod report;
pub(crate) mod surroundings;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use report::{Finding, Report, Subject, Verdict};

use crate::bench::{Machine, utc};
use crate::conformance::Shapes;
use crate::engine::{CancelFlag, ModelFiles, Selection, select, tuned_shapes};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Gpu, GpuOptions, Support, adapters};
use crate::kernels::{Candidate, Choices, Op};
use crate::model::{Decoder, ModelOptions, random};
use benchmark::Benchmark;
use kernels::{KernelCheck, Running, Status};
use report::{Details, Device, Floor, ModelSizes};
use surroundings::{Cache, Program, shown};

/// Options of a check-up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The device to check, the options for opening it, and its cache directory.
    pub gpu: GpuOptions,
    /// Options of the model: types and forced implementations.
    pub model: ModelOptions,
    /// Approximate time of the benchmark; zero skips it.
    pub benchmark: Duration,
    /// Model whose sizes the kernel checks use.
    config: Decoder,
    /// Name of that model in the report.
    model_name: String,
}

impl Options {
    /// Five seconds of benchmark, which a user is willing to wait.
    pub const BENCHMARK: Duration = Duration::from_secs(5);

    /// Returns options for the default device and the sizes of the demo model.
    ///
    /// # Errors
    /// None in a correct build.
    pub fn new() -> Result<Self> {
        Ok(Options {
            gpu: GpuOptions::default(),
            model: ModelOptions::default(),
            benchmark: Self::BENCHMARK,
            config: random::shape("demo")?,
            model_name: "demo".to_owned(),
        })
    }

    /// Checks kernels at the sizes of a model's files instead of the demo model's.
    pub fn set_model(&mut self, files: &ModelFiles) {
        self.config = files.config().clone();
        self.model_name = files.name().to_owned();
    }
}

/// Next step of a check-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Name of the step: an implementation, or a part of the benchmark.
    pub what: String,
    /// Number of steps completed.
    pub done: usize,
    /// Total number of steps.
    pub total: usize,
}

/// Checks the machine, the adapter, the device, the portable floor, every implementation
/// of every operation and the cache, and runs a short benchmark. `progress` receives each
/// step before it begins. `cancel` ends the check-up between two steps.
///
/// # Errors
/// [`Error::Cancelled`]; [`Error::Input`] for a forced implementation that the device
/// cannot run. Faults of the machine are not errors; the report lists them.
pub fn run(options: &Options, progress: &mut dyn FnMut(Progress), cancel: &CancelFlag) -> Result<Report> {
    run_among(options, &|op| op.candidates().iter().collect(), progress, cancel)
}

/// Runs the check-up like [`run`], but checks only the given `candidates` of each
/// operation.
///
/// # Errors
/// As [`run`].
#[cfg_attr(feature = "internals", visibility::make(pub))]
pub(crate) fn run_among(
    options: &Options,
    candidates: &dyn Fn(Op) -> Vec<&'static Candidate>,
    progress: &mut dyn FnMut(Progress),
    cancel: &CancelFlag,
) -> Result<Report> {
    let candidates: Vec<_> = Op::ALL.into_iter().flat_map(candidates).collect();
    // The steps are: adapters and device, one for each candidate, the floor's device and
    // one for each of its operations, and two for the benchmark.
    let benchmark = if options.benchmark.is_zero() { 0 } else { 2 };
    let total = 2 + candidates.len() + 1 + Op::ALL.len() + benchmark;
    let mut step = Step { progress, cancel, done: 0, total };
    let mut report = begin(options);
    examine(options, &candidates, &mut report, &mut step)?;
    Ok(report.conclude())
}

/// Progress and cancellation of a check-up.
struct Step<'a> {
    progress: &'a mut dyn FnMut(Progress),
    cancel: &'a CancelFlag,
    done: usize,
    total: usize,
}

impl Step<'_> {
    /// Reports the next step to `progress`, unless the check-up is cancelled.
    fn next(&mut self, what: &str) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        (self.progress)(Progress { what: what.to_owned(), done: self.done, total: self.total });
        self.done += 1;
        Ok(())
    }
}

/// Runs `work`, which calls wgpu, and turns a panic into an error.
fn guarded<T>(operation: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // State that a panic left inconsistent can be reached again only through wgpu's own
    // locks. These may panic again, and that panic is caught as well.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("panic: {}", text.unwrap_or("without a message"));
        Err(Error::Gpu { operation, message })
    })
}

/// Returns a report with all facts that are known without an adapter.
fn begin(options: &Options) -> Report {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Report {
        verdict: Verdict::Ok,
        findings: Vec::new(),
        details: Details {
            time: utc(now),
            program: Program::this(),
            machine: Machine::this(),
            adapter: None,
            other_adapters: Vec::new(),
            device: None,
            features: Vec::new(),
            limits: Vec::new(),
            floor: None,
            model: ModelSizes {
                name: shown(&options.model_name),
                shapes: tuned_shapes(&options.config, &options.model),
            },
            kernels: Vec::new(),
            cache: Cache::of(options.gpu.cache_dir.as_ref()),
            environment: surroundings::variables(),
            benchmark: None,
        },
    }
}

/// Completes the report as far as the machine allows.
fn examine(
    options: &Options,
    candidates: &[&'static Candidate],
    report: &mut Report,
    step: &mut Step<'_>,
) -> Result<()> {
    step.next("adapters")?;
    match guarded("look for adapters", || Support::of(&options.gpu)) {
        Ok(support) => {
            let mut adapter = support.adapter;
            for text in [&mut adapter.name, &mut adapter.driver, &mut adapter.driver_info] {
                *text = shown(text);
            }
            report.details.adapter = Some(adapter);
            report.details.features = support.features;
            report.details.limits = support.limits;
        }
        Err(error) => {
            let none = error.kind() == ErrorKind::NoAdapter;
            let subject = if none { Subject::Adapter } else { Subject::Device };
            report.find(Verdict::Broken, subject, shown(&error.to_string()));
            return Ok(());
        }
    }
    report.details.other_adapters = others(options, report);
    step.next("device")?;
    let gpu = match guarded("open", || Gpu::open(&options.gpu)) {
        Ok(gpu) => Arc::new(gpu),
        Err(error) => {
            report.find(Verdict::Broken, Subject::Device, shown(&error.to_string()));
            return Ok(());
        }
    };
    let result = examine_device(options, candidates, &gpu, report, step);
    for warning in gpu.take_warnings() {
        report.find(Verdict::Warnings, Subject::Cache, shown(&warning));
    }
    close(gpu, report);
    result
}

/// Returns the adapters that were not selected.
fn others(options: &Options, report: &Report) -> Vec<String> {
    let all = guarded("look for adapters", || Ok(adapters(options.gpu.backend))).unwrap_or_default();
    let taken = report.details.adapter.as_ref().map(|adapter| adapter.index);
    let others = all.iter().filter(|other| Some(other.index) != taken);
    others.map(|other| shown(&format!("{}: {} ({})", other.index, other.name, other.backend))).collect()
}

/// Drops the device. A driver may fail at that point as well.
fn close(gpu: Arc<Gpu>, report: &mut Report) {
    let closed = guarded("close", || {
        drop(gpu);
        Ok(())
    });
    if let Err(error) = closed {
        report.find(Verdict::Broken, Subject::Device, shown(&error.to_string()));
    }
}

fn examine_device(
    options: &Options,
    candidates: &[&'static Candidate],
    gpu: &Arc<Gpu>,
    report: &mut Report,
    step: &mut Step<'_>,
) -> Result<()> {
    let shapes = report.details.model.shapes.clone();
    report.details.device = Some(Device {
        strategy: gpu.strategy().name(),
        features_floor: options.gpu.features_floor,
        max_binding_bytes: gpu.max_binding_bytes(),
    });
    report.details.cache.look_for(gpu, &shapes);
    let device = gpu.capabilities();
    let selected = select(Some(gpu.report()), &device, &options.gpu, &options.config, &options.model)?;
    let Selection { choices: in_use, tuned, warning } = selected;
    report.details.cache.tuned = tuned;
    if let Some(warning) = warning {
        report.find(Verdict::Warnings, Subject::Cache, shown(&warning));
    }
    let running = Running { default: Choices::new(&device, &[])?, in_use };
    report.details.kernels = kernels::check_all(gpu, candidates, &running, &shapes, step)?;
    report.details.floor = Some(floor(options, &shapes, report, step)?);
    if options.benchmark.is_zero() {
        return Ok(());
    }
    let wrong = |kernel: &KernelCheck| kernel.in_use && kernel.status == Status::Demoted;
    let sound = !report.details.kernels.iter().any(wrong);
    let (found, faults) = Benchmark::run(gpu, &options.model, options.benchmark, sound, step)?;
    report.details.benchmark = Some(found);
    for fault in faults {
        report.find(Verdict::Broken, Subject::Benchmark, fault);
    }
    Ok(())
}

/// Checks the same adapter with only the portable floor's features and limits.
fn floor(options: &Options, shapes: &Shapes, report: &mut Report, step: &mut Step<'_>) -> Result<Floor> {
    step.next("portable floor")?;
    let floor_options = GpuOptions { features_floor: true, cache_dir: None, ..options.gpu.clone() };
    let gpu = match guarded("open the floor", || Gpu::open(&floor_options)) {
        Ok(gpu) => Arc::new(gpu),
        Err(error) => return Ok(Floor { problem: Some(shown(&error.to_string())), ..Floor::default() }),
    };
    let choices = Choices::new(&gpu.capabilities(), &[])?;
    let defaults = Op::ALL.map(|op| choices.get(op));
    let running = Running { default: choices, in_use: choices };
    let kernels = kernels::check_all(&gpu, &defaults, &running, shapes, step);
    close(gpu, report);
    Ok(Floor { opened: true, problem: None, kernels: kernels? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let error = |work: fn() -> Result<()>| guarded("check", work).unwrap_err().to_string();
        assert_eq!(error(|| panic!("lost")), "GPU check: panic: lost");
        assert_eq!(error(|| panic!("lost {}", 7)), "GPU check: panic: lost 7");
        assert_eq!(error(|| std::panic::panic_any(7)), "GPU check: panic: without a message");
        assert_eq!(error(|| Err(Error::Cancelled)), "cancelled");
        assert_eq!(guarded("check", || Ok(3)).unwrap(), 3);
    }
}
