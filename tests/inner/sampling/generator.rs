//! The generator on the GPU equals rand_chacha's, word for word.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wgpt::internals::gpu::{Binding, BufferUse, Extent, Grid, Kernel, Params, Recorder, Variant, Work};
use wgpt::internals::kernels::sample;
use wgpt::{GpuOptions, MemoryGroup, Sampler, SamplingParams, Strategy};

use super::harness::GpuSampler;
use super::rows::Kind;
use crate::support::open_gpu;

/// Writes one block.
static CHACHA_WORDS: Kernel = Kernel {
    name: "chacha_words",
    source: "
struct Input { key_low: vec4<u32>, key_high: vec4<u32>, block: vec4<u32> }
@group(0) @binding(0) var<uniform> input: Input;
@group(0) @binding(1) var<storage, read_write> words: array<vec4<u32>, 4>;
@compute @workgroup_size(1)
fn chacha_words() {
    words = chacha_block(input.key_low, input.key_high, input.block.xy);
}
",
    bindings: &[Binding::uniform(0, "input"), Binding::read_write(1, "words")],
};

#[test]
fn blocks_match_rand_chacha() {
    let gpu = open_gpu(GpuOptions::default());
    let fragments = sample::variants().iter().flat_map(|v| v.fragments.clone()).collect::<Vec<_>>();
    let chacha = fragments.into_iter().find(|fragment| fragment.name == "chacha").unwrap();
    let strategy = Strategy::PerThread;
    let variant = Variant { kernel: &CHACHA_WORDS, strategy, fragments: vec![chacha], constants: vec![] };
    let out = gpu.allocate("words", 64, BufferUse::Storage, MemoryGroup::Activations).unwrap();
    for seed in [0, 1, u64::MAX] {
        for block in [0, 1, 7, (1 << 32) - 1, 1 << 32, (1 << 40) + 12345, u64::MAX] {
            let sampler =
                Sampler::new(SamplingParams { seed: Some(seed), ..SamplingParams::default() }, 2).unwrap();
            let mut input = [0u32; 12];
            input[..8].copy_from_slice(&sampler.generator().key);
            input[8..10].copy_from_slice(&[block as u32, (block >> 32) as u32]);
            let mut params = Params::new(&gpu, 1).unwrap();
            let mut recorder = Recorder::new(&gpu, &mut params);
            let grid = Grid::Plane(Extent::Fixed(1), Extent::Fixed(1));
            recorder.dispatch(&variant, &input, &[(&out).into()], grid).unwrap();
            gpu.run(&recorder.finish(), Work { n_rows: 1, kv_len: 0 }).unwrap();
            let found: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.read_buffer(&out).unwrap());

            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_word_pos(u128::from(block) * 16);
            let want: Vec<u32> = (0..16).map(|_| rng.next_u32()).collect();
            assert_eq!(found, want, "seed {seed} block {block}");
        }
    }
}

/// The counter of draws and the counter of blocks that follows from it exceed 2^32.
#[test]
fn draws_continue_beyond_32_bits() {
    const N: usize = 1 << 16;
    let device = open_gpu(GpuOptions::default());
    let gpu = GpuSampler::new(&device, N, 8);
    // All logits are equal, so the token is the first 16 bits of the number.
    let logits = Kind::Flat.row(N);
    let params = SamplingParams { temperature: 1.0, seed: Some(11), ..SamplingParams::greedy() };
    for draws in [3, (1 << 32) - 4, (1 << 35) - 3, (1 << 63) + 1] {
        let mut cpu = Sampler::new(params.clone(), N).unwrap();
        cpu.set_draws(draws);
        gpu.begin(&logits, &cpu, &[]);
        gpu.steps(8);
        let want: Vec<(u32, u32)> = (0..8).map(|_| (cpu.sample(&logits, &[]).unwrap(), 0)).collect();
        assert_eq!(gpu.results(), want, "from draw {draws}");
        let [low, high] = gpu.state().draws;
        assert_eq!(u64::from(high) << 32 | u64::from(low), cpu.generator().draws);
    }
}
