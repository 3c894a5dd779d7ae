// out[row, i] = x[row, i] / sqrt(mean over j of x[row, j]^2 + epsilon) * weight[i]  [+ out[row, i]]
// (Zhang and Sennrich 2019, "Root Mean Square Layer Normalization")
//
// This kernel is for software adapters: one thread computes one row, without a barrier.
// Ragged edge: the padding of x is zero and adds nothing to the sum. The weight is zero
// there, so the result is zero too.
//
// Fragments in common/: step, norm.

@compute @workgroup_size(WORKGROUP_SIZE)
fn rms_norm_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    if (row >= step.n_rows) {
        return;
    }
    let first = (step.first_row + row) * params.stride4;

    var squares = vec4<f32>(0.0);
    for (var i = 0u; i < params.stride4; i++) {
        let value = x[first + i];
        squares = fma(value, value, squares);
    }
    let mean = dot(squares, vec4<f32>(1.0)) / f32(params.n);
    let factor = inverseSqrt(mean + params.epsilon);

    for (var i = 0u; i < params.stride4; i++) {
        store(row * params.stride4 + i, x[first + i] * factor * scale[i]);
    }
}
