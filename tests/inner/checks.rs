//! Recordings made by the safe `Recorder::new` keep a faulty shader inside its arrays.

use wgpt::internals::gpu::{
    Binding, BoundBuffer, BufferUse, Encoder, Extent, Grid, Kernel, Params, Recorder, Variant, Work,
};
use wgpt::{Gpu, GpuOptions, MemoryGroup, Strategy};

use crate::support::open_gpu;

/// Writes from an element of `params` on, into the second of three workgroup arrays and
/// into the output. Then copies the three arrays to the output.
static BEYOND: Kernel = Kernel {
    name: "beyond",
    source: "
@group(0) @binding(0) var<uniform> params: vec4<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
var<workgroup> before: array<u32, 64>;
var<workgroup> own: array<u32, 64>;
var<workgroup> following: array<u32, 64>;
@compute @workgroup_size(64)
fn beyond(@builtin(local_invocation_index) i: u32) {
    before[i] = 7u;
    own[i] = 1u;
    following[i] = 7u;
    workgroupBarrier();
    own[params.x + i] = 9u;
    workgroupBarrier();
    out[params.y + i] = 9u;
    storageBarrier();
    out[i] = before[i];
    out[64u + i] = own[i];
    out[128u + i] = following[i];
}
",
    bindings: &[Binding::uniform(0, "params"), Binding::read_write(1, "out")],
};

const ARRAY: usize = 64;
/// The three arrays; the last element takes writes that are clamped.
const OUT: usize = 4 * ARRAY;
const GUARD: u32 = 0xdead_beef;

fn variant() -> Variant {
    Variant { kernel: &BEYOND, strategy: Strategy::Workgroup, fragments: Vec::new(), constants: Vec::new() }
}

/// Runs the kernel with its writes from `at` on, and returns the buffer: the output, then
/// as many words that are not bound.
fn run(gpu: &Gpu, at: [u32; 2]) -> Vec<u32> {
    let bytes = 4 * OUT as u64;
    let buffer = gpu.allocate("test", 2 * bytes, BufferUse::Storage, MemoryGroup::Activations).unwrap();
    gpu.upload(&buffer, 0, bytemuck::cast_slice(&[GUARD; 2 * OUT])).unwrap();
    let mut slots = Params::new(gpu, 1).unwrap();
    let mut recorder = Recorder::new(gpu, &mut slots);
    let grid = Grid::Plane(Extent::Fixed(1), Extent::Fixed(1));
    let out = BoundBuffer::range(&buffer, 0, bytes);
    recorder.dispatch(&variant(), &[at[0], at[1], 0, 0], &[out], grid).unwrap();
    let dispatches = recorder.finish();
    let mut encoder: Encoder = gpu.encoder().unwrap();
    encoder.pass(|pass| pass.run(&dispatches, Work { n_rows: 1, kv_len: 0 }));
    encoder.submit(gpu).unwrap();
    bytemuck::pod_collect_to_vec(&gpu.read_buffer(&buffer).unwrap())
}

#[test]
fn a_write_beyond_an_array_changes_nothing_outside() {
    let floor = GpuOptions { features_floor: true, ..GpuOptions::default() };
    for options in [GpuOptions::default(), floor] {
        let gpu = open_gpu(options);
        // Inside, the writes arrive.
        let inside = run(&gpu, [0, 3 * ARRAY as u32]);
        assert!(inside[ARRAY..2 * ARRAY].iter().all(|&word| word == 9), "{inside:?}");
        assert!(inside[3 * ARRAY..OUT].iter().all(|&word| word == 9), "{inside:?}");
        for at in [64, 65, 128, 256, 4096, 1 << 16, 1 << 24, 1 << 30, u32::MAX - 63] {
            let found = run(&gpu, [at, at.max(OUT as u32)]);
            let (arrays, rest) = found.split_at(3 * ARRAY);
            for neighbour in [&arrays[..ARRAY], &arrays[2 * ARRAY..]] {
                assert!(neighbour.iter().all(|&word| word == 7), "{at}: {arrays:?}");
            }
            // A write beyond an array may arrive in the array itself.
            assert!(arrays[ARRAY..2 * ARRAY].iter().all(|word| [1, 9].contains(word)), "{at}: {arrays:?}");
            let (own, guard) = rest.split_at(ARRAY);
            assert!(own.iter().all(|word| [GUARD, 9].contains(word)), "{at}: {own:?}");
            assert!(guard.iter().all(|&word| word == GUARD), "{at}: {guard:?}");
        }
        // The device still works.
        assert_eq!(run(&gpu, [0, 3 * ARRAY as u32]), inside);
    }
}

/// One device compiles a variant once with checks and once without them, in either order.
#[test]
#[allow(unsafe_code, reason = "the variant is compiled, and no dispatch of it runs")]
fn checked_and_unchecked_forms_are_compiled_separately() {
    let compile = |gpu: &Gpu, checked: bool| {
        let mut slots = Params::new(gpu, 1).unwrap();
        let recorder = if checked {
            Recorder::new(gpu, &mut slots)
        } else {
            // SAFETY: nothing is recorded, so no dispatch runs.
            unsafe { Recorder::unchecked(gpu, &mut slots) }
        };
        let before = gpu.counters().pipelines;
        recorder.compile(&variant()).unwrap();
        gpu.counters().pipelines - before
    };
    for first in [true, false] {
        let gpu = open_gpu(GpuOptions::default());
        let forms = [first, !first, first, !first];
        assert_eq!(forms.map(|checked| compile(&gpu, checked)), [1, 1, 0, 0]);
        // Both forms are compiled, and the recording with checks stays inside its arrays.
        let found = run(&gpu, [64, 1 << 16]);
        assert!(found[2 * ARRAY..3 * ARRAY].iter().all(|&word| word == 7), "{found:?}");
        // With the option, every recording has checks, and there is one form.
        let gpu = open_gpu(GpuOptions { checked_shaders: true, ..GpuOptions::default() });
        assert_eq!(forms.map(|checked| compile(&gpu, checked)), [1, 0, 0, 0]);
    }
}
