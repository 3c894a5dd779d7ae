// out[m, n] = activate(sum over k of x[m, k] * weights[n, k] + bias[n])  [+ out[m, n]]
//
// One thread computes eight neighbouring outputs of each of four rows, without a
// barrier: for CPU adapters. The lanes of a workgroup are neighbouring rows, so
// that the weights are loaded once for all of them; the 32 sums stay in
// registers. Each output is summed over k in rising order, whatever M is. Ragged
// edge: n and k are padded to 8 with zeros; rows beyond M repeat the last one and
// are not stored.

// Four rows and two times four outputs are written out below.
const_assert ROWS == 4u && OUTPUTS == 8u;

// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<Load4>;

// Four of the sums of one row.
fn four_outputs(
    w0: mat2x4<f32>,
    w1: mat2x4<f32>,
    w2: mat2x4<f32>,
    w3: mat2x4<f32>,
    a: mat2x4<f32>,
    sum: vec4<f32>,
) -> vec4<f32> {
    let low = add_dots(w0[0], w1[0], w2[0], w3[0], a[0], sum);
    return add_dots(w0[1], w1[1], w2[1], w3[1], a[1], low);
}

fn load_x(at: u32) -> mat2x4<f32> {
    return mat2x4<f32>(load4(x[at]), load4(x[at + 1u]));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn gemm_per_thread(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let k8 = params.k8;
    let m = vec4<u32>(0u, 1u, 2u, 3u) * WORKGROUP_SIZE + group.y * WORKGROUP_SIZE * ROWS + lane;
    let last_m = step.n_rows - 1u;
    let start = min(m, vec4<u32>(last_m)) * k8 * 2u;
    let first = group.x * OUTPUTS * k8;
    var low0 = vec4<f32>(0.0);
    var low1 = vec4<f32>(0.0);
    var low2 = vec4<f32>(0.0);
    var low3 = vec4<f32>(0.0);
    var high0 = vec4<f32>(0.0);
    var high1 = vec4<f32>(0.0);
    var high2 = vec4<f32>(0.0);
    var high3 = vec4<f32>(0.0);
    for (var i = 0u; i < k8; i++) {
        let a0 = load_x(start.x + 2u * i);
        let a1 = load_x(start.y + 2u * i);
        let a2 = load_x(start.z + 2u * i);
        let a3 = load_x(start.w + 2u * i);
        let w0 = unpack8(weights[first + i]);
        let w1 = unpack8(weights[first + k8 + i]);
        let w2 = unpack8(weights[first + 2u * k8 + i]);
        let w3 = unpack8(weights[first + 3u * k8 + i]);
        low0 = four_outputs(w0, w1, w2, w3, a0, low0);
        low1 = four_outputs(w0, w1, w2, w3, a1, low1);
        low2 = four_outputs(w0, w1, w2, w3, a2, low2);
        low3 = four_outputs(w0, w1, w2, w3, a3, low3);
        let w4 = unpack8(weights[first + 4u * k8 + i]);
        let w5 = unpack8(weights[first + 5u * k8 + i]);
        let w6 = unpack8(weights[first + 6u * k8 + i]);
        let w7 = unpack8(weights[first + 7u * k8 + i]);
        high0 = four_outputs(w4, w5, w6, w7, a0, high0);
        high1 = four_outputs(w4, w5, w6, w7, a1, high1);
        high2 = four_outputs(w4, w5, w6, w7, a2, high2);
        high3 = four_outputs(w4, w5, w6, w7, a3, high3);
    }
    let n4 = group.x * 2u;
    if (m.x <= last_m) { epilogue(m.x, n4, low0); epilogue(m.x, n4 + 1u, high0); }
    if (m.y <= last_m) { epilogue(m.y, n4, low1); epilogue(m.y, n4 + 1u, high1); }
    if (m.z <= last_m) { epilogue(m.z, n4, low2); epilogue(m.z, n4 + 1u, high2); }
    if (m.w <= last_m) { epilogue(m.w, n4, low3); epilogue(m.w, n4 + 1u, high3); }
}
