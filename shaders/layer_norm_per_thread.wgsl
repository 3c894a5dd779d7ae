// out[row, i] = (x[row, i] - mean) / sqrt(variance + epsilon) * weight[i] + bias[i]
// (Ba, Kiros and Hinton 2016; biased variance. A large mean has a large rounding error,
// so the second pass measures and removes it: the corrected two-pass algorithm, Chan,
// Golub and LeVeque 1983)
//
// This kernel is for software adapters: one thread computes one row, without a barrier.
// Ragged edge: the padding of x is zero and is excluded from the variance. Weight and
// bias are zero there, so out is zero too.
//
// Fragments in common/: step, norm.

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_norm_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    if (row >= step.n_rows) {
        return;
    }
    let first = (step.first_row + row) * params.stride4;
    let inverse_n = 1.0 / f32(params.n);

    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < params.stride4; i++) {
        sum += x[first + i];
    }
    let mean = dot(sum, vec4<f32>(inverse_n));

    var squares = vec4<f32>(0.0);
    var rest = vec4<f32>(0.0);
    for (var i = 0u; i < params.stride4; i++) {
        let d = centred(x[first + i], mean, i);
        squares += d * d;
        rest += d;
    }
    let correction = dot(rest, vec4<f32>(inverse_n));
    let variance = dot(squares, vec4<f32>(inverse_n)) - correction * correction;
    let factor = inverseSqrt(max(variance, 0.0) + params.epsilon);

    for (var i = 0u; i < params.stride4; i++) {
        let d = centred(x[first + i], mean, i) - correction;
        out[row * params.stride4 + i] = d * factor * scale[i] + scale[params.stride4 + i];
    }
}
