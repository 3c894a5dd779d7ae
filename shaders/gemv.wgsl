// out[m, n] = activate(sum over k of weights[n, k] * input[m, k] + bias[n])  [+ out[m, n]]
//
// One workgroup computes four consecutive outputs, or eight if PARTS is 2, of BATCH rows.
// Its threads stride over k in packs of eight weights, which are used for all rows. Then
// the threads reduce their sums.
// Ragged edge: n and k are padded to multiples of 8 with zeros. Rows beyond M repeat the
// last one and are not stored.
//
// Fragments in common/: step, pack_f16 | pack_f32, weights_rows | weights_blocks,
// activation, soft_cap, matmul, dot4, reduce_workgroup | reduce_subgroup,
// input_plain | input_norm | input_rms, rows_batch | none, rope | rope_none,
// rows_chunk | rows_batch | none, kv_layout | none, pack4_f16 | pack4_f32 | none,
// overflow_note | overflow_ignore | none, output | output_kv.

@compute @workgroup_size(WORKGROUP_SIZE)
fn gemv(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let n4 = (group.y * groups.x + group.x) * PARTS;
    if (n4 * 4u >= params.n) {
        return;
    }
    let start = row_start(n4 * 4u, params.n, params.k8);
    let to_next = pack_step(n4 * 4u, params.n);
    let row = row_step(n4 * 4u, params.n, params.k8);
    let four_rows = four_rows_step(n4 * 4u, params.n, params.k8);
    let first_row = group.z * BATCH;
    let last_row = step.n_rows - 1u;
    // [BATCH, PARTS]
    var sums: array<vec4<f32>, BATCH * PARTS>;
    for (var b = 0u; b < BATCH; b++) {
        prepare_input(b, min(first_row + b, last_row), lane);
    }
    for (var i = 0u; i < BATCH * PARTS; i++) {
        sums[i] = vec4<f32>(0.0);
    }
    for (var i = lane.index; i < params.k8; i += WORKGROUP_SIZE) {
        let at = start + i * to_next;
        var w: array<mat2x4<f32>, 4u * PARTS>;
        for (var j = 0u; j < 4u * PARTS; j++) {
            w[j] = unpack8(weights[at + j / 4u * four_rows + j % 4u * row]);
        }
        for (var b = 0u; b < BATCH; b++) {
            let m = min(first_row + b, last_row);
            let x0 = input(b, m, 2u * i);
            let x1 = input(b, m, 2u * i + 1u);
            for (var part = 0u; part < PARTS; part++) {
                let own = b * PARTS + part;
                let j = 4u * part;
                let sum = add_dots(w[j][0], w[j + 1u][0], w[j + 2u][0], w[j + 3u][0], x0, sums[own]);
                sums[own] = add_dots(w[j][1], w[j + 1u][1], w[j + 2u][1], w[j + 3u][1], x1, sum);
            }
        }
    }
    for (var b = 0u; b < BATCH; b++) {
        let factor = input_factor(b, lane);
        for (var part = 0u; part < PARTS; part++) {
            let total = workgroup_sum(sums[b * PARTS + part], lane) * factor;
            if (lane.index == 0u && first_row + b <= last_row) {
                store_output(first_row + b, n4 + part, total);
            }
        }
    }
}
