// out[n] = activate(sum over k of weights[n, k] * x[k] + bias[n])  [+ out[n]]
//
// One workgroup computes four neighbouring outputs: its threads stride over k
// in 16-byte pieces of the weights, then reduce. Ragged edge: n and k are
// padded to 8 with zeros.

// [8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

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
    let k8 = params.k8;
    let first = n4 * 4u * k8;
    var sum = vec4<f32>(0.0);
    for (var i = lane.index; i < k8; i += WORKGROUP_SIZE) {
        let low = x[2u * i];
        let high = x[2u * i + 1u];
        let w0 = unpack8(weights[first + i]);
        let w1 = unpack8(weights[first + k8 + i]);
        let w2 = unpack8(weights[first + 2u * k8 + i]);
        let w3 = unpack8(weights[first + 3u * k8 + i]);
        sum += vec4<f32>(dot(w0[0], low), dot(w1[0], low), dot(w2[0], low), dot(w3[0], low));
        sum += vec4<f32>(dot(w0[1], high), dot(w1[1], high), dot(w2[1], high), dot(w3[1], high));
    }
    let total = workgroup_sum(sum, lane);
    if (lane.index == 0u) {
        epilogue(0u, n4, total);
    }
}
