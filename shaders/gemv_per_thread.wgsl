// out[m, n] = activate(sum over k of weights[n, k] * input[m, k] + bias[n])  [+ out[m, n]]
//
// One thread computes four neighbouring outputs of BATCH rows, without a
// barrier: for CPU adapters, whose lanes then share each load of the input, and
// whose weights are loaded once for all rows. Ragged edge: n and k are padded to 8
// with zeros; threads beyond n and rows beyond M repeat the last one and store
// nothing.

@compute @workgroup_size(WORKGROUP_SIZE)
fn gemv_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let own_n4 = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane.index;
    let n4 = min(own_n4, params.n / 4u - 1u);
    let k8 = params.k8;
    let first = n4 * 4u * k8;
    let first_row = group.z * BATCH;
    let last_row = step.n_rows - 1u;
    var sums: array<vec4<f32>, BATCH>;
    for (var b = 0u; b < BATCH; b++) {
        prepare_input(b, min(first_row + b, last_row), lane);
        sums[b] = vec4<f32>(0.0);
    }
    for (var i = 0u; i < k8; i++) {
        let w0 = unpack8(weights[first + i]);
        let w1 = unpack8(weights[first + k8 + i]);
        let w2 = unpack8(weights[first + 2u * k8 + i]);
        let w3 = unpack8(weights[first + 3u * k8 + i]);
        for (var b = 0u; b < BATCH; b++) {
            let row = min(first_row + b, last_row);
            let sum = add_dots(w0[0], w1[0], w2[0], w3[0], input(b, row, 2u * i), sums[b]);
            sums[b] = add_dots(w0[1], w1[1], w2[1], w3[1], input(b, row, 2u * i + 1u), sum);
        }
    }
    for (var b = 0u; b < BATCH; b++) {
        if (first_row + b <= last_row && own_n4 == n4) {
            store_output(first_row + b, n4, sums[b]);
        }
    }
}
