// out[n] = activate(sum over k of weights[n, k] * x[k] + bias[n])  [+ out[n]]
//
// One thread computes four neighbouring outputs, without a barrier: for CPU
// adapters, whose lanes then share each load of x. Ragged edge: n and k are
// padded to 8 with zeros; threads beyond n return.

// [8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gemv_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n4 = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    if (n4 * 4u >= params.n) {
        return;
    }
    let k8 = params.k8;
    let first = n4 * 4u * k8;
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    for (var i = 0u; i < k8; i++) {
        let low = x[2u * i];
        let high = x[2u * i + 1u];
        let w0 = unpack8(weights[first + i]);
        let w1 = unpack8(weights[first + k8 + i]);
        let w2 = unpack8(weights[first + 2u * k8 + i]);
        let w3 = unpack8(weights[first + 3u * k8 + i]);
        sum0 += w0[0] * low + w0[1] * high;
        sum1 += w1[0] * low + w1[1] * high;
        sum2 += w2[0] * low + w2[1] * high;
        sum3 += w3[0] * low + w3[1] * high;
    }
    let one = vec4<f32>(1.0);
    epilogue(0u, n4, vec4<f32>(dot(sum0, one), dot(sum1, one), dot(sum2, one), dot(sum3, one)));
}
