// out[m, n] = activate(sum over splits of partial[split, m, n] + bias[n])  [+ out[m, n]]
//
// One thread adds up the splits of four consecutive outputs of one row, in ascending
// order of k. One workgroup has 64 threads.
// Ragged edge: n is padded to a multiple of 8 with zeros. Threads beyond n do nothing.
//
// Fragments in common/: step, pack_f16 | pack_f32, weights_rows | weights_blocks,
// activation, soft_cap, matmul, rope | rope_none, rows_chunk | rows_batch | none.

// [SPLITS * n_rows, n]
@group(0) @binding(6) var<storage, read> partial: array<vec4<f32>>;

@compute @workgroup_size(64)
fn gemm_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n4 = group.x * 64u + lane;
    let width4 = params.n / 4u;
    if (n4 >= width4) {
        return;
    }
    var sum = partial[group.y * width4 + n4];
    for (var split = 1u; split < SPLITS; split++) {
        sum += partial[(split * step.n_rows + group.y) * width4 + n4];
    }
    epilogue(group.y, n4, sum);
}
