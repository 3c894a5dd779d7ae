//! Every kernel variant that the adapter can run against its naive reference.

mod support;

use std::process::Command;

use support::open_gpu;
use wgpt::gpu::{Gpu, GpuOptions, Strategy};
use wgpt::tune::Outcome;
use wgpt::tune::cases::{self, Case};

/// One failed case, as lines for the reader.
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

/// Runs `cases` with one strategy; returns a description of each failure.
fn failures(gpu: &Gpu, strategy: Strategy, cases: &[Case]) -> Vec<String> {
    let mut failed = Vec::new();
    let mut closest = 0.0f64;
    for case in cases {
        match case.check(gpu, strategy) {
            Ok(outcome) if outcome.passed() => {
                closest = closest.max(outcome.max_error / outcome.tolerance.max(f64::MIN_POSITIVE));
            }
            Ok(outcome) => failed.push(describe(&outcome)),
            Err(error) => failed.push(format!("{case}\n    {error}")),
        }
    }
    println!(
        "{}: {} of {} cases passed, errors up to {:.0} % of their tolerance",
        strategy.name(),
        cases.len() - failed.len(),
        cases.len(),
        closest * 100.0
    );
    failed
}

/// Runs every case with every strategy that the device has kernels for.
fn check_all(options: GpuOptions) {
    let gpu = open_gpu(options);
    println!("{} ({}, {})", gpu.report().name, gpu.report().backend, gpu.report().driver_info);
    let cases = cases::all();
    let failed: Vec<String> =
        gpu.strategies().into_iter().flat_map(|strategy| failures(&gpu, strategy, &cases)).collect();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn kernels_match_their_reference() {
    check_all(GpuOptions::default());
}

#[test]
fn kernels_match_their_reference_without_any_feature() {
    check_all(GpuOptions { features_floor: true, ..GpuOptions::default() });
}

/// With bounds checks and zeroed workgroup memory the results are the same:
/// no kernel leans on what the unchecked mode leaves undefined.
#[test]
fn kernels_match_their_reference_with_checks() {
    check_all(GpuOptions { checked_shaders: true, ..GpuOptions::default() });
}

/// No kernel assumes a subgroup size: lavapipe reports the width of its
/// vectors, which a variable sets for a whole process.
#[test]
fn kernels_match_their_reference_at_other_subgroup_sizes() {
    let name = open_gpu(GpuOptions::default()).report().name.clone();
    if !name.starts_with("llvmpipe") {
        println!("not run: the vector width of {name} cannot be chosen");
        return;
    }
    let program = std::env::current_exe().expect("the path of the test program");
    for width in ["128", "256"] {
        let output = Command::new(&program)
            .args(["--exact", "kernels_match_their_reference", "--nocapture"])
            .env("LP_NATIVE_VECTOR_WIDTH", width)
            .output()
            .expect("the test program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{name} with vectors of {width} bits:\n{text}");
        assert!(
            output.status.success() && text.contains("1 passed"),
            "vectors of {width} bits: {}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
