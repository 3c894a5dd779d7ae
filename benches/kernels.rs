//! Wall time of each kernel at the shapes of GPT-2 124M, from submit to done:
//! `cargo bench --bench kernels`. Each result is checked before it is timed.
//!
//! The rows are cases of the list that the tests run on. `WGPT_DEVICE` chooses
//! the adapter; every strategy that it has kernels for is measured.

use std::fmt;
use std::sync::LazyLock;

use divan::Bencher;
use wgpt::gpu::{Gpu, GpuOptions, Strategy};
use wgpt::tune::cases::{self, Case};

static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    let options = GpuOptions { device: std::env::var("WGPT_DEVICE").ok(), ..GpuOptions::default() };
    Gpu::open(&options).expect("an adapter")
});

struct Row {
    strategy: Strategy,
    case: Case,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.case, self.strategy.name())
    }
}

fn rows() -> Vec<Row> {
    let cases = cases::gpt2_shapes(768, 12, 50257);
    let strategies = GPU.strategies();
    cases
        .into_iter()
        .flat_map(|case| strategies.iter().map(move |&strategy| Row { strategy, case: case.clone() }))
        .collect()
}

#[divan::bench(args = rows(), max_time = 1)]
fn kernel(bencher: Bencher<'_, '_>, row: &Row) {
    let prepared = row.case.prepare(&GPU, row.strategy).expect("the case fits the device");
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
