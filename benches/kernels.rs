//! Wall time of each kernel at the shapes of GPT-2 124M, from submit to done:
//! `cargo bench --bench kernels`. Each result is checked before it is timed.
//!
//! The rows are cases of the list that the tests run on. `WGPT_DEVICE` chooses
//! the adapter; every implementation that it can run is measured.

use std::fmt;
use std::sync::LazyLock;

use divan::Bencher;
use wgpt::gpu::{Gpu, GpuOptions};
use wgpt::kernels::Choices;
use wgpt::tune::cases::{self, Case};

static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    let options = GpuOptions { device: std::env::var("WGPT_DEVICE").ok(), ..GpuOptions::default() };
    Gpu::open(&options).expect("an adapter")
});

struct Row {
    choices: Choices,
    case: Case,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.case)?;
        match self.case.op() {
            Some(op) => write!(f, " [{}]", self.choices.get(op).name),
            None => Ok(()),
        }
    }
}

fn rows() -> Vec<Row> {
    let device = GPU.capabilities();
    let rows = |case: Case| {
        let candidates = case.candidates(&device);
        let forced: Vec<_> =
            if candidates.is_empty() { vec![None] } else { candidates.into_iter().map(Some).collect() };
        forced.into_iter().map(move |candidate| {
            let choices = Choices::new(&device, candidate.as_slice()).expect("the device can run it");
            Row { choices, case: case.clone() }
        })
    };
    cases::gpt2_shapes(768, 12, 50257).into_iter().flat_map(rows).collect()
}

#[divan::bench(args = rows(), max_time = 1)]
fn kernel(bencher: Bencher<'_, '_>, row: &Row) {
    let prepared = row.case.prepare(&GPU, &row.choices).expect("the case fits the device");
    let outcome = prepared.check(&GPU).expect("the kernel runs");
    assert!(outcome.passed(), "{row}: error {}, tolerance {}", outcome.max_error, outcome.tolerance);
    let (dispatches, work) = prepared.dispatches();
    bencher.bench_local(|| GPU.run(dispatches, work).expect("the kernel runs"));
}

fn main() {
    let report = GPU.report();
    println!("{} ({}), {} {}", report.name, report.backend, report.driver, report.driver_info);
    divan::main();
}
