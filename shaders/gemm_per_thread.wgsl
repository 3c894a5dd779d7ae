// out[m, n] = activate(sum over k of x[m, k] * weights[n, k] + bias[n])  [+ out[m, n]]
//
// One thread computes ROWS rows (WORKGROUP_SIZE apart) times 4 neighbouring
// outputs in registers, without workgroup memory: for CPU adapters. The lanes
// of a workgroup differ in m alone, so a weight is loaded and unpacked once for
// all of them. Each output is summed over k in rising order, whatever M is.
// Ragged edge: n and k are padded to 8 with zeros; rows beyond M repeat the last
// one and are not stored.

// sum0 and sum1.
const_assert ROWS == 2u;

// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gemm_per_thread(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let k8 = params.k8;
    let first_m = group.y * WORKGROUP_SIZE * ROWS + lane;
    let last_m = step.n_rows - 1u;
    let x0 = min(first_m, last_m) * k8 * 2u;
    let x1 = min(first_m + WORKGROUP_SIZE, last_m) * k8 * 2u;
    let n4 = group.x;
    let first = n4 * 4u * k8;
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    for (var i = 0u; i < k8; i++) {
        let a = mat2x4<f32>(x[x0 + 2u * i], x[x0 + 2u * i + 1u]);
        let b = mat2x4<f32>(x[x1 + 2u * i], x[x1 + 2u * i + 1u]);
        let w0 = unpack8(weights[first + i]);
        let w1 = unpack8(weights[first + k8 + i]);
        let w2 = unpack8(weights[first + 2u * k8 + i]);
        let w3 = unpack8(weights[first + 3u * k8 + i]);
        sum0 += vec4<f32>(dot(w0[0], a[0]), dot(w1[0], a[0]), dot(w2[0], a[0]), dot(w3[0], a[0]));
        sum0 += vec4<f32>(dot(w0[1], a[1]), dot(w1[1], a[1]), dot(w2[1], a[1]), dot(w3[1], a[1]));
        sum1 += vec4<f32>(dot(w0[0], b[0]), dot(w1[0], b[0]), dot(w2[0], b[0]), dot(w3[0], b[0]));
        sum1 += vec4<f32>(dot(w0[1], b[1]), dot(w1[1], b[1]), dot(w2[1], b[1]), dot(w3[1], b[1]));
    }
    if (first_m <= last_m) { epilogue(first_m, n4, sum0); }
    if (first_m + WORKGROUP_SIZE <= last_m) { epilogue(first_m + WORKGROUP_SIZE, n4, sum1); }
}
