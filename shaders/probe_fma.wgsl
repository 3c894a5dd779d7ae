// out[t] = sum of a(c) for c in 0..CHAINS
//
// a(c) starts as (t mod 256) / 256 + c, plus 0, 1/4, 1/2 and 3/4 in the four elements. It
// is replaced by a(c) * factor + offset, 4 * iterations times.
//
// This kernel measures the rate of f32 arithmetic with which other kernels are compared.
// A thread has CHAINS (2 or 4) vec4 whose updates do not wait for one another, and
// accesses memory once.
// Ragged edge: none, because every thread has an output.
//
// Fragments in common/: none.
struct ProbeFmaParams {
    iterations: u32,
    factor: f32,
    offset: f32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: ProbeFmaParams;
// [n_threads]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn probe_fma(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4<f32>(params.factor);
    let offset = vec4<f32>(params.offset);
    let start = vec4<f32>(f32(id.x & 255u) / 256.0) + vec4<f32>(0.0, 0.25, 0.5, 0.75);
    var a0 = start;
    var a1 = start + 1.0;
    var a2 = start + 2.0;
    var a3 = start + 3.0;
    for (var i = 0u; i < params.iterations; i++) {
        a0 = fma(a0, factor, offset);
        a1 = fma(a1, factor, offset);
        if (CHAINS > 2u) {
            a2 = fma(a2, factor, offset);
            a3 = fma(a3, factor, offset);
        }
        a0 = fma(a0, factor, offset);
        a1 = fma(a1, factor, offset);
        if (CHAINS > 2u) {
            a2 = fma(a2, factor, offset);
            a3 = fma(a3, factor, offset);
        }
        a0 = fma(a0, factor, offset);
        a1 = fma(a1, factor, offset);
        if (CHAINS > 2u) {
            a2 = fma(a2, factor, offset);
            a3 = fma(a3, factor, offset);
        }
        a0 = fma(a0, factor, offset);
        a1 = fma(a1, factor, offset);
        if (CHAINS > 2u) {
            a2 = fma(a2, factor, offset);
            a3 = fma(a3, factor, offset);
        }
    }
    var sum = a0 + a1;
    if (CHAINS > 2u) {
        sum += a2 + a3;
    }
    out[id.x] = sum;
}
