// out[m, n] = activate(sum over k of weights[n, k] * input[m, k] + bias[n])  [+ out[m, n]]
//
// One thread computes eight neighbouring outputs of BATCH rows, without a barrier:
// gemv and gemm for CPU adapters, whose weights are loaded once for all rows.
// Neighbouring threads take neighbouring outputs, so that they share each load of
// the input. Each output is summed over k in rising order, whatever BATCH is.
// Ragged edge: n and k are padded to 8 with zeros; threads beyond n and rows beyond
// M repeat the last one and store nothing.

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
    let first_m = group.z * BATCH;
    let last_m = step.n_rows - 1u;
    var low: array<vec4<f32>, BATCH>;
    var high: array<vec4<f32>, BATCH>;
    for (var b = 0u; b < BATCH; b++) {
        prepare_input(b, min(first_m + b, last_m), lane);
        low[b] = vec4<f32>(0.0);
        high[b] = vec4<f32>(0.0);
    }
    for (var i = 0u; i < params.k8; i++) {
        let at = start + i * to_next;
        let w0 = unpack8(weights[at]);
        let w1 = unpack8(weights[at + row]);
        let w2 = unpack8(weights[at + 2u * row]);
        let w3 = unpack8(weights[at + 3u * row]);
        let w4 = unpack8(weights[at + 4u * row]);
        let w5 = unpack8(weights[at + 5u * row]);
        let w6 = unpack8(weights[at + 6u * row]);
        let w7 = unpack8(weights[at + 7u * row]);
        for (var b = 0u; b < BATCH; b++) {
            let m = min(first_m + b, last_m);
            let x0 = input(b, m, 2u * i);
            let x1 = input(b, m, 2u * i + 1u);
            low[b] = add_dots(w0[0], w1[0], w2[0], w3[0], x0, low[b]);
            low[b] = add_dots(w0[1], w1[1], w2[1], w3[1], x1, low[b]);
            high[b] = add_dots(w4[0], w5[0], w6[0], w7[0], x0, high[b]);
            high[b] = add_dots(w4[1], w5[1], w6[1], w7[1], x1, high[b]);
        }
    }
    for (var b = 0u; b < BATCH; b++) {
        if (first_m + b <= last_m && own_n8 == n8) {
            let factor = input_factor(b, lane);
            store_output(first_m + b, 2u * n8, low[b] * factor);
            store_output(first_m + b, 2u * n8 + 1u, high[b] * factor);
        }
    }
}
