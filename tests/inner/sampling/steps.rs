//! State that carries over from step to step: stop ids, faults, the ring, the next token.

use wgpt::internals::kernels::sample::{NO_TOKEN, SampleParams};
use wgpt::{GpuOptions, Sampler, SamplingParams};

use super::harness::GpuSampler;
use super::params;
use super::rows::Kind;
use crate::support::open_gpu;

const NONE: (u32, u32) = (NO_TOKEN, 0);
const FAULT: (u32, u32) = (NO_TOKEN, 1);

fn cpu_draws(sampler: &mut Sampler, logits: &[f32], n: usize) -> Vec<u32> {
    (0..n).map(|_| sampler.sample(logits, &[]).unwrap()).collect()
}

#[test]
fn a_stop_id_ends_the_draws() {
    let device = open_gpu(GpuOptions::default());
    let gpu = GpuSampler::new(&device, 257, 16);
    let logits = Kind::Random.row(257);
    let new = || Sampler::new(params((1.0, 0, 1.0, 0.0), 5), 257).unwrap();
    let want = cpu_draws(&mut new(), &logits, 16);
    let stop = want[10];
    let first = want.iter().position(|&token| token == stop).unwrap();
    assert!(first > 2, "the stop id must not be drawn too early: {want:?}");
    // The last of eight stop ids, then the only one.
    for stop_ids in [&[300, 301, 302, 303, 304, 305, 306, stop][..], &[stop]] {
        gpu.begin(&logits, &new(), stop_ids);
        gpu.steps(16);
        let mut expected: Vec<(u32, u32)> = want[..=first].iter().map(|&token| (token, 0)).collect();
        expected.resize(16, NONE);
        assert_eq!(gpu.results(), expected);
        let state = gpu.state();
        assert_eq!((state.stopped, state.step), (1, 16));
        assert_eq!(state.draws, [first as u32 + 1, 0], "no number is consumed after the stop");
        assert_eq!(gpu.first_token_id(), stop);
    }
}

#[test]
fn faulty_logits_are_reported_and_consume_no_number() {
    let device = open_gpu(GpuOptions::default());
    for n in [2, 257, 5000] {
        let gpu = GpuSampler::new(&device, n, 2);
        let at = |i: usize, value: f32| {
            let mut row = Kind::Random.row(n);
            row[i] = value;
            row
        };
        let faulty = [
            at(0, f32::NAN),
            at(n - 1, f32::NAN),
            at(n / 2, f32::from_bits(0xffc0_0001)),
            at(n - 1, f32::from_bits(0x7f80_0001)),
            at(0, f32::INFINITY),
            vec![f32::NEG_INFINITY; n],
            vec![f32::NAN; n],
        ];
        for row in &faulty {
            for set in [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 1, 0.5, 0.1), (2.0, 40, 0.9, 0.0)] {
                let mut cpu = Sampler::new(params(set, 5), n).unwrap();
                assert!(cpu.sample(row, &[]).is_err());
                gpu.begin(row, &cpu, &[]);
                gpu.upload(&gpu.token_ids, &[1234u32]);
                gpu.steps(2);
                assert_eq!(gpu.results(), [FAULT, NONE], "n {n} {set:?}");
                let state = gpu.state();
                assert_eq!((state.draws, state.stopped), ([0, 0], 1));
                assert_eq!(gpu.first_token_id(), 1234, "the previous token stays");
            }
        }
    }
}

#[test]
fn greedy_takes_the_lowest_tied_id_and_no_random_number() {
    let device = open_gpu(GpuOptions::default());
    for n in [1, 2, 257, 2049, 5000] {
        let samplers = [GpuSampler::new(&device, n, 1), GpuSampler::greedy(&device, n, 1)];
        let mut rows: Vec<Vec<f32>> = Kind::ALL.iter().map(|kind| kind.row(n)).collect();
        // Equal maxima in different chunks.
        let mut row = Kind::Random.row(n);
        (row[n - 1], row[n / 2]) = (50.0, 50.0);
        rows.push(row);
        for (row, gpu) in rows.iter().flat_map(|row| samplers.iter().map(move |gpu| (row, gpu))) {
            let mut cpu = Sampler::new(SamplingParams::greedy(), n).unwrap();
            gpu.begin(row, &cpu, &[]);
            gpu.steps(1);
            assert_eq!(gpu.results(), [(cpu.sample(row, &[]).unwrap(), 0)]);
            assert_eq!((gpu.state().draws, gpu.state().step), ([0, 0], 1));
        }
    }
}

#[test]
fn results_wrap_in_the_ring_and_the_last_token_is_fed_back() {
    let device = open_gpu(GpuOptions::default());
    let gpu = GpuSampler::new(&device, 1000, 4);
    let logits = Kind::Random.row(1000);
    let mut cpu = Sampler::new(params((1.0, 0, 0.95, 0.0), 8), 1000).unwrap();
    gpu.begin(&logits, &cpu, &[]);
    let want = cpu_draws(&mut cpu, &logits, 10);
    gpu.steps(3);
    gpu.steps(7);
    let slots: Vec<(u32, u32)> = [8, 9, 6, 7].iter().map(|&step| (want[step], 0)).collect();
    assert_eq!(gpu.results(), slots);
    assert_eq!(gpu.first_token_id(), want[9]);
}

#[test]
fn parameters_change_without_a_new_recording() {
    let device = open_gpu(GpuOptions::default());
    let gpu = GpuSampler::new(&device, 1000, 8);
    let logits = Kind::Random.row(1000);
    let mut cpu = Sampler::new(params((1.0, 0, 1.0, 0.0), 8), 1000).unwrap();
    gpu.begin(&logits, &cpu, &[]);
    gpu.steps(4);
    let mut want = cpu_draws(&mut cpu, &logits, 4);
    let mut changed = Sampler::new(params((2.0, 300, 0.9, 0.0), 8), 1000).unwrap();
    changed.set_draws(4);
    gpu.upload(&gpu.params, &[SampleParams::new(2.0, 300, 0.9, 0.0, &[]).unwrap()]);
    gpu.steps(4);
    want.extend(cpu_draws(&mut changed, &logits, 4));
    assert_eq!(gpu.results().iter().map(|r| r.0).collect::<Vec<_>>(), want);
}
