//! Every kernel variant that the adapter can run, against its naive reference.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use wgpt::internals::conformance::cases::Case;
use wgpt::internals::conformance::{Outcome, prepare_case};
use wgpt::internals::kernels::{Candidate, Choices};
use wgpt::{Gpu, GpuOptions, Strategy};

use crate::cases;
use crate::support::open_gpu;

/// Formats one failed case as lines for a reader.
fn describe(outcome: &Outcome) -> String {
    let Outcome { case, variant, max_error, tolerance, reason, worst, wrong_elements, stray_writes } =
        outcome;
    let mut text = format!("{case}\n    {variant}\n    ");
    text += &format!("{wrong_elements} wrong elements, {stray_writes} stray writes; ");
    text += &format!("error {max_error:.3e}, tolerance {tolerance:.3e} ({reason})");
    if let Some((output, index, found, want)) = worst {
        text += &format!("\n    {output}[{index}]: found {found:e}, expected {want:e}");
    }
    text
}

/// Chooses which cases to run.
enum Scope {
    /// Every case.
    All,
    /// The cases that [`Coverage`] wants.
    Covering,
}

/// The pipelines that ran, and the parts that they consist of.
///
/// Software adapters compile a pipeline for seconds and run it in milliseconds. A short
/// run therefore compiles a pipeline only if it has a fragment or a constant that no
/// pipeline of the same kernel had, or if it is a candidate's first. It runs every case of
/// the pipelines that it has.
#[derive(Default)]
struct Coverage {
    labels: HashSet<String>,
    candidates: HashSet<String>,
    /// By kernel and name of the part: its values, "" for a fragment.
    parts: HashMap<(String, String), HashSet<String>>,
}

/// Constants with a value per width or number of heads; the kernels treat all values alike.
const SIZES: [&str; 3] = ["K8", "N_HEAD", "N_KV_HEAD"];

impl Coverage {
    /// Returns whether to run a case of a candidate with these pipelines, and counts it as
    /// run.
    fn wants(&mut self, candidate: &str, labels: &[&str]) -> bool {
        let parts = |label: &str| {
            let (kernel, parts) = label.split_once('[').expect("a label has its parts in brackets");
            let part = |part: &str| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                ((kernel.to_owned(), name.to_owned()), value.to_owned())
            };
            parts.trim_end_matches(']').split(',').map(part).collect::<Vec<_>>()
        };
        let parts: Vec<_> = labels.iter().flat_map(|label| parts(label)).collect();
        let is_new = |(key, value): &((String, String), String)| {
            let met = self.parts.get(key);
            let enough = SIZES.contains(&key.1.as_str()) && met.is_some_and(|met| met.len() >= 2);
            !enough && !met.is_some_and(|met| met.contains(value))
        };
        let wanted = labels.iter().all(|&label| self.labels.contains(label))
            || !self.candidates.contains(candidate)
            || parts.iter().any(is_new);
        if wanted {
            self.labels.extend(labels.iter().map(|&label| label.to_owned()));
            self.candidates.insert(candidate.to_owned());
            for (key, value) in parts {
                self.parts.entry(key).or_default().insert(value);
            }
        }
        wanted
    }
}

/// Runs `cases` with every implementation of a strategy that the device can run, and
/// returns a description of each failure. Operations with a single implementation count
/// as per_thread.
fn failures(gpu: &Gpu, strategy: Strategy, cases: &[Case], scope: &Scope) -> Vec<String> {
    let (mut failed, mut n_run, mut n_left_out, mut closest) = (Vec::new(), 0, 0, 0.0f64);
    let mut coverage = Coverage::default();
    let device = gpu.capabilities();
    for (i, case) in cases.iter().enumerate() {
        let candidates = case.candidates(&device);
        let own = candidates.into_iter().filter(|candidate| candidate.strategy() == strategy);
        // Implementations that differ from the first of their kind only in sizes take
        // long to compile, so they run only every seventh case.
        let own = own.filter(|candidate| is_first(candidate) || i % 7 == 0).map(Some);
        let single = case.op().is_none() && strategy == Strategy::PerThread;
        for candidate in own.chain(single.then_some(None)) {
            let choices = Choices::new(&device, candidate.as_slice()).expect("the device can run it");
            let name = candidate.map_or_else(|| "only".to_owned(), ToString::to_string);
            // SAFETY: the lists of `cases` keep the contract.
            #[allow(unsafe_code, reason = "the kernels run as the engine runs them")]
            let prepared = unsafe { prepare_case(gpu, case, &choices) };
            let checked = match &prepared {
                Ok(prepared)
                    if matches!(scope, Scope::Covering) && !coverage.wants(&name, &prepared.labels()) =>
                {
                    n_left_out += 1;
                    continue;
                }
                Ok(prepared) => prepared.check(gpu).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            n_run += 1;
            match checked {
                Ok(outcome) if outcome.passed() => {
                    closest = closest.max(outcome.max_error / outcome.tolerance.max(f64::MIN_POSITIVE));
                }
                Ok(outcome) => failed.push(describe(&outcome)),
                Err(error) => failed.push(format!("{case}\n    {error}")),
            }
        }
    }
    println!(
        "{}: {} of {n_run} runs passed with {} pipelines, errors up to {:.0} % of their tolerance",
        strategy.name(),
        n_run - failed.len(),
        coverage.labels.len(),
        closest * 100.0
    );
    if n_left_out > 0 {
        println!("{n_left_out} runs were left out: their pipelines only combine parts that ran in others");
    }
    failed
}

/// Returns whether it is the first implementation with its shaders and requirements.
fn is_first(candidate: &Candidate) -> bool {
    let same = |other: &&Candidate| {
        (other.strategy(), other.needs(), other.kernels())
            == (candidate.strategy(), candidate.needs(), candidate.kernels())
    };
    candidate.op().candidates().iter().find(same) == Some(candidate)
}

/// Runs `cases` on one device for each of `options`, with those of `strategies` that the
/// device supports.
fn check(options: &[GpuOptions], strategies: &[Strategy], cases: &[Case], scope: &Scope) {
    let mut failed = Vec::new();
    for options in options {
        let gpu = open_gpu(options.clone());
        let floor = if options.features_floor { ", no feature" } else { "" };
        println!("{} ({}, {}{floor})", gpu.report().name, gpu.report().backend, gpu.report().driver_info);
        for &strategy in strategies {
            if gpu.strategies().contains(&strategy) {
                failed.extend(failures(&gpu, strategy, cases, scope));
            } else {
                // Only the floor may lack features that the adapter offers.
                let offered = strategy == Strategy::Subgroup && gpu.report().subgroups;
                assert!(options.features_floor || !offered, "{} kernels were not run", strategy.name());
                println!("{}: the device has no such kernels", strategy.name());
            }
        }
    }
    assert!(failed.is_empty(), "{} runs failed:\n{}", failed.len(), failed.join("\n"));
}

/// A device with everything it offers, then one with only the portable floor.
fn both_floors() -> [GpuOptions; 2] {
    [GpuOptions::default(), GpuOptions { features_floor: true, ..GpuOptions::default() }]
}

const ALL: [Strategy; 3] = [Strategy::PerThread, Strategy::Workgroup, Strategy::Subgroup];

// One test per strategy: software adapters compile for a long time, and this way they use
// two cores.

#[test]
fn per_thread_kernels_match_their_reference() {
    check(&both_floors(), &[Strategy::PerThread], &cases::all(), &Scope::Covering);
}

#[test]
fn workgroup_kernels_match_their_reference() {
    check(&both_floors(), &[Strategy::Workgroup], &cases::all(), &Scope::Covering);
}

#[test]
fn subgroup_kernels_match_their_reference() {
    check(&both_floors(), &[Strategy::Subgroup], &cases::all(), &Scope::Covering);
}

/// Every combination of types, layouts and forms.
#[test]
#[ignore = "takes minutes: make test-all"]
fn all_per_thread_kernels_match_their_reference() {
    check(&both_floors(), &[Strategy::PerThread], &cases::all(), &Scope::All);
}

#[test]
#[ignore = "takes minutes: make test-all"]
fn all_workgroup_kernels_match_their_reference() {
    check(&both_floors(), &[Strategy::Workgroup], &cases::all(), &Scope::All);
}

#[test]
#[ignore = "takes minutes: make test-all"]
fn all_subgroup_kernels_match_their_reference() {
    check(&both_floors(), &[Strategy::Subgroup], &cases::all(), &Scope::All);
}

/// With bounds checks and zeroed workgroup memory the results are the same: no kernel
/// relies on behaviour that the unchecked mode leaves undefined.
#[test]
fn kernels_match_their_reference_with_checks() {
    let checked = GpuOptions { checked_shaders: true, ..GpuOptions::default() };
    check(&[checked], &ALL, &cases::quick(), &Scope::Covering);
}

/// No kernel assumes a subgroup size. lavapipe's subgroup size is its vector width, which
/// an environment variable sets for a whole process.
#[test]
fn kernels_match_their_reference_at_other_subgroup_sizes() {
    rerun_at_other_widths(&["kernels_with_subgroups_pass_the_quick_cases"]);
}

#[test]
#[ignore = "kernels_match_their_reference_at_other_subgroup_sizes runs it"]
fn kernels_with_subgroups_pass_the_quick_cases() {
    let strategies = [Strategy::PerThread, Strategy::Subgroup];
    check(&[GpuOptions::default()], &strategies, &cases::quick(), &Scope::Covering);
}

/// All cases on both floors; this takes minutes, nearly all of them for compilation.
#[test]
#[ignore = "takes minutes: make test-all"]
fn all_cases_pass_at_other_subgroup_sizes() {
    rerun_at_other_widths(&[
        "all_per_thread_kernels_match_their_reference",
        "all_workgroup_kernels_match_their_reference",
        "all_subgroup_kernels_match_their_reference",
    ]);
}

/// Runs tests of this program again with vectors of 128 or 256 bits, for each width that
/// the adapter does not already use. The driver's shader cache does not distinguish
/// widths (Mesa 25.0.7), so with the usual cache the code for the other width would run.
fn rerun_at_other_widths(tests: &[&str]) {
    let name = open_gpu(GpuOptions::default()).report().name.clone();
    if !name.starts_with("llvmpipe") {
        println!("not run: the subgroup size of {name} cannot be chosen");
        return;
    }
    let program = std::env::current_exe().expect("the path of the test program");
    let others = ["128", "256"].into_iter().filter(|width| !name.contains(&format!("{width} bits")));
    for width in others {
        let cache = tempfile::tempdir().expect("a folder for the shader cache");
        let output = Command::new(&program)
            .args(["--exact", "--include-ignored", "--nocapture"])
            .args(tests.iter().map(|test| format!("kernels::{test}")))
            .env("LP_NATIVE_VECTOR_WIDTH", width)
            // `make test` turns the driver's optimizer off; here it runs as for users.
            .env_remove("GALLIVM_PERF")
            .env("MESA_SHADER_CACHE_DIR", cache.path())
            .output()
            .expect("the test program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        println!("vectors of {width} bits:\n{text}");
        let passed = format!("{} passed", tests.len());
        assert!(
            // The name shows that the variable took effect.
            output.status.success() && text.contains(&passed) && text.contains(&format!("{width} bits")),
            "vectors of {width} bits: {}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
