// out[m, n] = activate(sum over k of x[m, k] * weights[n, k] + bias[n])  [+ out[m, n]]
//
// One workgroup of 16 x 16 threads computes a tile of 64 x 64 outputs, each
// thread 4 x 4; tiles of x and of the weights pass through workgroup memory, 16
// of k at a time. Each output is summed over k in rising order, whatever M is.
// Ragged edge: n and k are padded to 8 with zeros; rows and columns beyond the
// tile's end are loaded as zeros and not stored.

// 16 x 16 threads of 4 x 4 outputs.
const_assert TILE == 64u;
const TILE_K: u32 = 16u;
// Four elements of padding a row keep column writes off the same bank.
const STRIDE: u32 = TILE + 4u;

// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// [TILE_K, TILE]: transposed, so that a thread reads four neighbours. Scalars, as
// four threads write them: a component of a vector is no memory location of its
// own in WGSL.
var<workgroup> tile_x: array<f32, TILE_K * STRIDE>;
var<workgroup> tile_w: array<f32, TILE_K * STRIDE>;

@compute @workgroup_size(256)
fn gemm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let k8 = params.k8;
    let first_m = group.y * TILE;
    let first_n = group.x * TILE;
    let thread_m = lane / 16u;
    let thread_n = lane % 16u;

    // Loading: a thread brings four of k of one row of x; the lower half of the
    // threads bring eight of k of one row of the weights.
    let load_row = lane / 4u;
    let load_k4 = lane % 4u;
    let w_row = lane / 2u;
    let w_k8 = lane % 2u;

    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);

    for (var k = 0u; k < k8; k += TILE_K / 8u) {
        let m = first_m + load_row;
        let k4 = k * 2u + load_k4;
        var value = vec4<f32>(0.0);
        if (m < step.n_rows && k4 < k8 * 2u) {
            value = x[m * k8 * 2u + k4];
        }
        for (var i = 0u; i < 4u; i++) {
            tile_x[(load_k4 * 4u + i) * STRIDE + load_row] = value[i];
        }
        if (lane < 128u) {
            var weight = mat2x4<f32>();
            if (first_n + w_row < params.n && k + w_k8 < k8) {
                weight = unpack8(weights[(first_n + w_row) * k8 + k + w_k8]);
            }
            for (var i = 0u; i < 8u; i++) {
                tile_w[(w_k8 * 8u + i) * STRIDE + w_row] = weight[i / 4u][i % 4u];
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < TILE_K; i++) {
            let m4 = i * STRIDE + thread_m * 4u;
            let n4 = i * STRIDE + thread_n * 4u;
            let b = vec4<f32>(tile_w[n4], tile_w[n4 + 1u], tile_w[n4 + 2u], tile_w[n4 + 3u]);
            sum0 = fma(vec4<f32>(tile_x[m4]), b, sum0);
            sum1 = fma(vec4<f32>(tile_x[m4 + 1u]), b, sum1);
            sum2 = fma(vec4<f32>(tile_x[m4 + 2u]), b, sum2);
            sum3 = fma(vec4<f32>(tile_x[m4 + 3u]), b, sum3);
        }
        workgroupBarrier();
    }

    let n4 = group.x * (TILE / 4u) + thread_n;
    let m = first_m + thread_m * 4u;
    if (n4 * 4u >= params.n) {
        return;
    }
    if (m < step.n_rows) { epilogue(m, n4, sum0); }
    if (m + 1u < step.n_rows) { epilogue(m + 1u, n4, sum1); }
    if (m + 2u < step.n_rows) { epilogue(m + 2u, n4, sum2); }
    if (m + 3u < step.n_rows) { epilogue(m + 3u, n4, sum3); }
}
