// out[m, n] = activate(sum over k of weights[n, k] * input[m, k] + bias[n])  [+ out[m, n]]
//
// This is gemv and gemm for software adapters. One thread computes eight consecutive
// outputs of BATCH rows, in two passes over k with four outputs each. The weights are
// loaded once for all rows. lavapipe emits code for every lane of a load, so a single
// pass over all eight outputs would be more code than a core keeps decoded
// (benches/record/DECISIONS.md). Adjacent threads compute adjacent outputs and read the
// same input. Each output is summed over k in ascending order, regardless of BATCH.
// Ragged edge: n and k are padded to multiples of 8 with zeros. Threads beyond n and rows
// beyond M repeat the last one and store nothing.
//
// Fragments in common/: step, pack_f16 | pack_f32 | pack_f16_wide | pack_f32_wide,
// weights_rows | weights_blocks, activation, soft_cap, matmul, dot4,
// lane | lane_subgroup, input8_alone | input8_quad,
// input_plain_per_thread | input_norm_per_thread | input_rms_per_thread,
// rows_batch | none, rope | rope_none, rows_chunk | rows_batch | none, kv_layout | none,
// pack4_f16 | pack4_f32 | none, overflow_note | overflow_ignore | none,
// output | output_kv.

@compute @workgroup_size(WORKGROUP_SIZE)
fn gemv_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let own_n8 = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane.index;
    let n8 = min(own_n8, params.n / 8u - 1u);
    let start = row_start(n8 * 8u, params.n, params.k8);
    let to_next = pack_step(n8 * 8u, params.n);
    let row = row_step(n8 * 8u, params.n, params.k8);
    let four_rows = four_rows_step(n8 * 8u, params.n, params.k8);
    let first_m = group.z * BATCH;
    let last_m = step.n_rows - 1u;
    // After both passes these are the sums of the four lower and the four upper outputs.
    // Elements are set one by one. An array that is zeroed as a whole stays in memory,
    // and lavapipe's compiler then takes six times as long.
    var low: array<vec4<f32>, BATCH>;
    var high: array<vec4<f32>, BATCH>;
    for (var b = 0u; b < BATCH; b++) {
        prepare_input(b, min(first_m + b, last_m), lane);
        low[b] = vec4<f32>(0.0);
        high[b] = vec4<f32>(0.0);
    }
    for (var half = 0u; half < 2u; half++) {
        var sum: array<vec4<f32>, BATCH>;
        for (var b = 0u; b < BATCH; b++) {
            start_pass(b);
            sum[b] = vec4<f32>(0.0);
        }
        for (var i = 0u; i < params.k8; i++) {
            let at = start + half * four_rows + i * to_next;
            let w0 = unpack8(weights[at]);
            let w1 = unpack8(weights[at + row]);
            let w2 = unpack8(weights[at + 2u * row]);
            let w3 = unpack8(weights[at + 3u * row]);
            for (var b = 0u; b < BATCH; b++) {
                let x = input8(b, min(first_m + b, last_m), i, lane);
                sum[b] = add_dots(w0[0], w1[0], w2[0], w3[0], x[0], sum[b]);
                sum[b] = add_dots(w0[1], w1[1], w2[1], w3[1], x[1], sum[b]);
            }
        }
        for (var b = 0u; b < BATCH; b++) {
            low[b] = high[b];
            high[b] = sum[b];
        }
    }
    for (var b = 0u; b < BATCH; b++) {
        let factor = input_factor(b, lane);
        if (first_m + b <= last_m && own_n8 == n8) {
            store_output(first_m + b, 2u * n8, low[b] * factor);
            store_output(first_m + b, 2u * n8 + 1u, high[b] * factor);
        }
    }
}
