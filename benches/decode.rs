//! Benchmarks the wall time of decoding one token with the demo model at several depths:
//! `cargo bench --bench decode`.

use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use wgpt::{Engine, GpuOptions};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let options = GpuOptions { device: std::env::var("WGPT_DEVICE").ok(), ..GpuOptions::default() };
    Engine::builder().gpu(options).build().expect("an adapter")
});

/// Numbers of tokens in the context before the timed one.
const DEPTHS: [usize; 3] = [1, 128, 510];

#[divan::bench(args = DEPTHS)]
fn logits(bencher: Bencher<'_, '_>, depth: usize) {
    let mut session = ENGINE.session();
    session.prefill(&vec![1; depth]).expect("the prompt fits");
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        session.advance(&[2]).expect("a token fits");
        session.truncate(depth);
    });
}

#[divan::bench(args = DEPTHS)]
fn greedy(bencher: Bencher<'_, '_>, depth: usize) {
    let mut session = ENGINE.session();
    session.prefill(&vec![1; depth]).expect("the prompt fits");
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let token = session.advance_greedy(&[2]).expect("a token fits");
        session.truncate(depth);
        token
    });
}

fn main() {
    let gpu = ENGINE.gpu();
    let report = gpu.report();
    println!("{} ({}), {} {}", report.name, report.backend, report.driver, report.driver_info);
    divan::main();
}
