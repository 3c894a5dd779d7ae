// out[row, i] = (x[row, i] - mean) / sqrt(variance + epsilon) * weight[i] + bias[i]
// (Ba, Kiros and Hinton 2016; biased variance. A large mean has a large rounding error,
// so the second pass measures and removes it: the corrected two-pass algorithm, Chan,
// Golub and LeVeque 1983)
//
// One workgroup computes one row.
// Ragged edge: the padding of x is zero and is excluded from the variance. Weight and
// bias are zero there, so out is zero too.
//
// Fragments in common/: step, norm, reduce_workgroup | reduce_subgroup.

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let row = group.y * groups.x + group.x;
    if (row >= step.n_rows) {
        return;
    }
    let first = (step.first_row + row) * params.stride4;
    let inverse_n = 1.0 / f32(params.n);

    var sum = vec4<f32>(0.0);
    for (var i = lane.index; i < params.stride4; i += WORKGROUP_SIZE) {
        sum += x[first + i];
    }
    let mean = dot(workgroup_sum(sum, lane), vec4<f32>(inverse_n));

    var squares = vec4<f32>(0.0);
    var rest = vec4<f32>(0.0);
    for (var i = lane.index; i < params.stride4; i += WORKGROUP_SIZE) {
        let d = centred(x[first + i], mean, i);
        squares += d * d;
        rest += d;
    }
    let one = vec4<f32>(1.0);
    let sums = workgroup_sum(vec4<f32>(dot(squares, one), dot(rest, one), 0.0, 0.0), lane) * inverse_n;
    let correction = sums.y;
    let variance = sums.x - correction * correction;
    let factor = inverseSqrt(max(variance, 0.0) + params.epsilon);

    for (var i = lane.index; i < params.stride4; i += WORKGROUP_SIZE) {
        let d = centred(x[first + i], mean, i) - correction;
        out[row * params.stride4 + i] = d * factor * scale[i] + scale[params.stride4 + i];
    }
}
