//! The check-up as a library: faults become lines of its report.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wgpt::doctor::{self, Options, Report, Subject, Verdict};
use wgpt::internals::doctor::{KernelCheck, Status, run_among};
use wgpt::internals::kernels::{Candidate, Choices, Op};
use wgpt::{CancelFlag, Error, GpuOptions};

use crate::support::faulty::{altered, faulty, named};
use crate::support::{on_device, open_gpu};

/// Options for the device of the other tests, without a benchmark.
fn options() -> Options {
    let mut options = Options::new().unwrap();
    options.gpu = on_device(GpuOptions::default());
    options.benchmark = Duration::ZERO;
    options
}

/// Runs a check-up of only `candidates`.
fn report_of(options: &Options, candidates: &[&'static Candidate]) -> Report {
    let of = |op| candidates.iter().copied().filter(|candidate| candidate.op() == op).collect();
    run_among(options, &of, &mut |_| {}, &CancelFlag::default()).unwrap()
}

fn line<'r>(report: &'r Report, candidate: &Candidate) -> &'r KernelCheck {
    let found = |line: &&KernelCheck| line.op == candidate.op() && line.variant == candidate.name();
    report.details().kernels.iter().find(found).unwrap()
}

fn default(op: Op) -> &'static Candidate {
    Choices::new(&open_gpu(GpuOptions::default()).capabilities(), &[]).unwrap().get(op)
}

#[test]
fn an_unused_wrong_kernel_is_a_warning() {
    let sound = default(Op::LayerNorm);
    let report = report_of(&options(), &[&[sound], &faulty().map(|(candidate, _)| candidate)[..]].concat());
    let passed = line(&report, sound);
    assert_eq!((passed.status, passed.default, passed.in_use), (Status::Passed, true, true));
    // The faults made by `faulty`, in its order.
    for (line, fault) in
        report.details().kernels[1..].iter().zip(["wrong elements", " 0 wrong elements, 4 stray", "compile"])
    {
        assert!(line.status == Status::Demoted && !line.default && !line.in_use, "{line:?}");
        assert!(line.reason.as_deref().unwrap().contains(fault), "{line:?}");
    }
    let kernels = report.findings.iter().filter(|finding| finding.subject == Subject::Kernels);
    let severities: Vec<_> = kernels.map(|finding| finding.severity).collect();
    assert_eq!(severities, [Verdict::Warnings; 3]);
    assert_eq!(report.verdict, Verdict::Warnings);
}

#[test]
fn a_wrong_kernel_in_use_is_a_fault_and_gives_no_rates() {
    let (wrong, _) = faulty()[0];
    let mut options = options();
    options.model.variants = vec![wrong];
    options.benchmark = Duration::from_millis(10);
    let report = report_of(&options, &[wrong]);
    let found = line(&report, wrong);
    assert_eq!((found.status, found.in_use), (Status::Demoted, true));
    assert_eq!(report.verdict, Verdict::Broken);
    let worst = &report.findings[0];
    assert_eq!((worst.severity, worst.subject), (Verdict::Broken, Subject::Kernels));
    assert!(worst.message.starts_with(&format!("{wrong} is in use and wrong here")), "{worst:?}");
    assert!(!report.has_no_adapter());
    let benchmark = report.details().benchmark.as_ref().unwrap();
    assert!(benchmark.copy_bytes_per_second.is_some() && benchmark.model.is_none());
    assert!(benchmark.notes[0].contains("kernel in use is wrong"), "{benchmark:?}");
}

#[test]
fn a_panic_is_reported_and_the_other_checks_continue() {
    let tile = named(Op::Gemm, "tile_32x32");
    let panics = altered(tile, "without_constants", tile.kernels(), &[]);
    let report = report_of(&options(), &[panics, tile]);
    let reason = line(&report, panics).reason.as_deref().unwrap();
    assert!(reason.contains("panic: gemm=without_constants has no constant"), "{reason}");
    assert_eq!(line(&report, panics).status, Status::Demoted);
    assert_eq!(line(&report, tile).status, Status::Passed);
    assert!(
        report.details().floor.as_ref().unwrap().kernels.iter().all(|kernel| kernel.status == Status::Passed)
    );
}

#[test]
fn missing_features_of_the_device_are_named() {
    let subgroup = named(Op::LayerNorm, "subgroup_128");
    let mut options = options();
    options.gpu.features_floor = true;
    let report = report_of(&options, &[subgroup]);
    let found = line(&report, subgroup);
    assert_eq!(
        (found.status, found.reason.as_deref()),
        (Status::Unavailable, Some("needs subgroup operations"))
    );
    assert!(
        report.details().features.iter().all(|feature| !feature.requested),
        "{:?}",
        report.details().features
    );
    assert!(report.details().device.as_ref().unwrap().features_floor);
    assert!(
        report.details().limits.len() >= 14
            && report.details().limits.iter().all(|limit| limit.reaches_floor)
    );
    let floor = report.details().floor.as_ref().unwrap();
    assert!(floor.opened && floor.kernels.len() == Op::ALL.len());
    // Forcing such a variant is the caller's mistake.
    options.model.variants = vec![subgroup];
    let refused = doctor::run(&options, &mut |_| {}, &CancelFlag::default());
    assert!(matches!(&refused, Err(Error::Input(message)) if message.contains("Subgroups")));
}

#[test]
fn the_rest_is_reported_without_an_adapter() {
    let mut options = options();
    options.gpu.device = Some("voodoo2".to_owned());
    let report = report_of(&options, &[default(Op::Gemv)]);
    assert!(report.has_no_adapter() && report.verdict == Verdict::Broken);
    assert!(report.findings[0].message.contains("\"voodoo2\" matches no adapter"), "{:?}", report.findings);
    assert!(
        report.details().adapter.is_none()
            && report.details().device.is_none()
            && report.details().kernels.is_empty()
    );
    assert_eq!(report.details().program.wgpt, env!("CARGO_PKG_VERSION"));
    assert!(report.details().machine.cpu_cores > 0 && report.details().model.name == "demo");
}

#[test]
fn steps_are_counted_and_each_can_be_the_last() {
    let candidate = default(Op::LayerNorm);
    let only = |op| if op == candidate.op() { vec![candidate] } else { Vec::new() };
    let mut options = options();
    options.benchmark = Duration::from_nanos(1);
    let mut steps = Vec::new();
    let flag = CancelFlag::default();
    run_among(&options, &only, &mut |step| steps.push(step), &flag).unwrap();
    assert!(steps.iter().enumerate().all(|(i, step)| step.done == i && step.total == steps.len()));
    assert_eq!(steps[2].what, candidate.to_string());
    for last in [0, 2, 5, steps.len() - 1] {
        let flag = CancelFlag::default();
        let mut progress = |step: doctor::Progress| flag.store(step.done == last, Ordering::Relaxed);
        let result = run_among(&options, &only, &mut progress, &flag);
        assert!(matches!(result, Err(Error::Cancelled)), "{last}");
    }
}
