// x[i] = x[i] + increment, for i in 0..WORKGROUP_SIZE
//
// This is the smallest dispatch: one workgroup, with one load and one store per thread.
// If dispatches are repeated on one buffer, each waits for the previous one.
// Ragged edge: none.
//
// Fragments in common/: none.
struct ProbeStepParams {
    increment: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: ProbeStepParams;
// [WORKGROUP_SIZE]
@group(0) @binding(1) var<storage, read_write> x: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn probe_step(@builtin(local_invocation_index) lane: u32) {
    x[lane] = x[lane] + params.increment;
}
