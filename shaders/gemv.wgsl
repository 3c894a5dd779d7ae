// out[m, n] = activate(sum over k of weights[n, k] * input[m, k] + bias[n])  [+ out[m, n]]
//
// One workgroup computes four neighbouring outputs of BATCH rows: its threads
// stride over k in 16-byte pieces of the weights, which serve all rows, then
// reduce. Ragged edge: n and k are padded to 8 with zeros; rows beyond M repeat
// the last one and are not stored.

@compute @workgroup_size(WORKGROUP_SIZE)
fn gemv(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let n4 = group.y * groups.x + group.x;
    if (n4 * 4u >= params.n) {
        return;
    }
    let start = row_start(n4 * 4u, params.n, params.k8);
    let to_next = pack_step(n4 * 4u, params.n);
    let row = row_step(n4 * 4u, params.n, params.k8);
    let first_row = group.z * BATCH;
    let last_row = step.n_rows - 1u;
    var sums: array<vec4<f32>, BATCH>;
    for (var b = 0u; b < BATCH; b++) {
        prepare_input(b, min(first_row + b, last_row), lane);
        sums[b] = vec4<f32>(0.0);
    }
    for (var i = lane.index; i < params.k8; i += WORKGROUP_SIZE) {
        let at = start + i * to_next;
        let w0 = unpack8(weights[at]);
        let w1 = unpack8(weights[at + row]);
        let w2 = unpack8(weights[at + 2u * row]);
        let w3 = unpack8(weights[at + 3u * row]);
        for (var b = 0u; b < BATCH; b++) {
            let m = min(first_row + b, last_row);
            let sum = add_dots(w0[0], w1[0], w2[0], w3[0], input(b, m, 2u * i), sums[b]);
            sums[b] = add_dots(w0[1], w1[1], w2[1], w3[1], input(b, m, 2u * i + 1u), sum);
        }
    }
    for (var b = 0u; b < BATCH; b++) {
        let total = finish_sum(b, workgroup_sum(sums[b], lane), lane);
        if (lane.index == 0u && first_row + b <= last_row) {
            store_output(first_row + b, n4, total);
        }
    }
}
