//! The sampler on the GPU: its draws equal the CPU's.

mod borders;
mod generator;
mod harness;
mod rows;
mod steps;

use wgpt::{GpuOptions, Sampler, SamplingParams};

use crate::support::open_gpu;
use borders::distance_to_border;
use harness::GpuSampler;
use rows::Kind;

/// Vocabulary sizes, with the number of draws for each configuration. A row of the
/// largest takes a hundredth of a second in a test build on a software adapter.
const SIZES: [(usize, usize); 9] =
    [(2, 60), (3, 60), (255, 60), (256, 60), (257, 60), (1000, 60), (2048, 60), (50_257, 25), (128_256, 20)];

/// Farther than this from a border, CPU and GPU agree.
const BORDER: f64 = 1e-5;
/// Closer to a border, they may differ this often in 10,000 draws.
const DIFFERENCES_MAX: usize = 5;

/// Temperature, top-k, top-p, min-p: each filter alone, then together.
const PARAMS: [(f32, usize, f32, f32); 19] = [
    (1.0, 0, 1.0, 0.0),
    (0.1, 0, 1.0, 0.0),
    (2.0, 0, 1.0, 0.0),
    (1.0, 1, 1.0, 0.0),
    (1.0, 40, 1.0, 0.0),
    (0.7, 1000, 1.0, 0.0),
    (1.0, 0, 0.1, 0.0),
    (1.0, 0, 0.9, 0.0),
    (1.3, 0, 0.95, 0.0),
    (2.0, 0, 0.999, 0.0),
    (1.0, 0, 1.0, 0.05),
    (0.5, 0, 1.0, 0.5),
    (1.0, 0, 1.0, 1.0),
    (0.8, 40, 0.95, 0.0),
    (1.0, 1000, 0.9, 0.0),
    (1.5, 1000, 0.999, 0.01),
    (1.0, 40, 1.0, 0.1),
    (0.9, 0, 0.95, 0.02),
    (2.0, 40, 0.1, 0.5),
];

fn params((temperature, top_k, top_p, min_p): (f32, usize, f32, f32), seed: u64) -> SamplingParams {
    SamplingParams { temperature, top_k, top_p, min_p, seed: Some(seed), ..SamplingParams::greedy() }
}

/// A draw where CPU and GPU differ: a line for the reader, and the distance to the
/// nearest border.
struct Difference(String, f64);

/// Draws `n_draws` tokens from a row on both sides.
fn compare(
    gpu: &GpuSampler<'_>,
    kind: Kind,
    logits: &[f32],
    params: &SamplingParams,
    n_draws: usize,
) -> Vec<Difference> {
    let mut cpu = Sampler::new(params.clone(), logits.len()).unwrap();
    gpu.begin(logits, &cpu, &[]);
    gpu.steps(n_draws);
    let found = gpu.results();
    let mut differences = Vec::new();
    for (i, &(token, fault)) in found.iter().take(n_draws).enumerate() {
        let want = cpu.sample(logits, &[]).unwrap();
        assert_eq!(fault, 0, "{kind:?} {params:?}");
        if token != want {
            let distance = distance_to_border(params, logits, i as u64);
            let line = format!(
                "n {} {kind:?} {params:?} draw {i}: GPU {token}, CPU {want}, {distance:.1e} from a border",
                logits.len()
            );
            differences.push(Difference(line, distance));
        }
    }
    assert_eq!(gpu.state().draws, [n_draws as u32, 0]);
    differences
}

#[test]
fn ten_thousand_seeded_draws_equal_the_cpus() {
    let device = open_gpu(GpuOptions::default());
    let (mut n_total, mut differences, mut index) = (0, Vec::new(), 0);
    for (n, n_draws) in SIZES {
        let gpu = GpuSampler::new(&device, n, n_draws);
        for kind in Kind::ALL {
            let logits = kind.row(n);
            for _ in 0..2 {
                // 19 is coprime to the number of rows, so every row size meets every
                // parameter set.
                let params = params(PARAMS[index % PARAMS.len()], index as u64);
                differences.extend(compare(&gpu, kind, &logits, &params, n_draws));
                n_total += n_draws;
                index += 1;
            }
        }
    }
    println!("{} of {n_total} draws differ", differences.len());
    for Difference(line, _) in &differences {
        println!("{line}");
    }
    assert!(n_total >= 10_000);
    assert!(differences.iter().all(|d| d.1 < BORDER), "a difference far from any border");
    assert!(differences.len() <= DIFFERENCES_MAX * n_total / 10_000);
}

/// Every parameter set on every kind of row, at a size of two chunks.
#[test]
fn every_filter_equals_the_cpus_on_every_kind_of_row() {
    let device = open_gpu(GpuOptions::default());
    let gpu = GpuSampler::new(&device, 3000, 8);
    for kind in Kind::ALL {
        let logits = kind.row(3000);
        for (i, set) in PARAMS.into_iter().enumerate() {
            let differences = compare(&gpu, kind, &logits, &params(set, 1000 + i as u64), 8);
            assert!(differences.is_empty(), "{}", differences[0].0);
        }
    }
}

/// Temperatures and magnitudes over the whole range of f32.
#[test]
fn draws_at_extreme_temperatures_equal_the_cpus() {
    let device = open_gpu(GpuOptions::default());
    let gpu = GpuSampler::new(&device, 257, 8);
    for kind in [Kind::HugeSpread, Kind::Random, Kind::TinyDifferences, Kind::Powers] {
        for temperature in [f32::from_bits(1), 1e-38, 1e-20, 1.0, 1e6, 1e15, 1e20, f32::MAX] {
            for top_p in [1.0, 0.9] {
                let params = params((temperature, 0, top_p, 0.0), 7);
                let differences = compare(&gpu, kind, &kind.row(257), &params, 8);
                assert!(differences.is_empty(), "{}", differences[0].0);
            }
        }
    }
}
