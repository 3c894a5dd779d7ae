// out[m, n] = activate(sum over k of x[m, k] * weights[n, k] + bias[n])  [+ out[m, n]]
//
// One workgroup computes a tile of TILE_M x TILE_N outputs, and each thread a block of
// BLOCK_M x BLOCK_N. Tiles of x and of the weights pass through workgroup memory, TILE_K
// of k at a time, while the next tiles wait in registers. Each output is summed over k in
// ascending order, regardless of M. With SPLITS above 1, the workgroups of one tile share
// k, and gemm_sum adds up their partial sums.
// Ragged edge: n and k are padded to multiples of 8 with zeros. Weights beyond the end of
// k are loaded as zeros. Rows of x beyond M repeat the last one and are not stored.
//
// Fragments in common/: step, pack_f16 | pack_f32, weights_rows | weights_blocks,
// activation, soft_cap, matmul, rope | rope_none, rows_chunk | rows_batch | none,
// gemm_block_4x4 | gemm_block_8x4 | gemm_block_8x8, output | output_partial.

const THREADS_M: u32 = TILE_M / BLOCK_M;
const THREADS_N: u32 = TILE_N / BLOCK_N;
const THREADS: u32 = THREADS_M * THREADS_N;
// One vec4 of padding per row, so that writes for different k use different banks.
const STRIDE_M: u32 = TILE_M / 4u + 1u;
const STRIDE_N: u32 = TILE_N / 4u + 1u;
// A load takes four rows by four k of x, or four rows by eight k of the weights.
const LOADS_X: u32 = TILE_M / 4u * (TILE_K / 4u);
const LOADS_W: u32 = TILE_N / 4u * (TILE_K / 8u);
const_assert LOADS_X <= THREADS && LOADS_W <= THREADS;

// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// [TILE_K, TILE_M] and [TILE_K, TILE_N]: transposed, so that a thread reads four
// neighbours at once. They are written as whole vectors, because in WGSL a component is
// not a separate memory location.
var<workgroup> tile_x: array<vec4<f32>, TILE_K * STRIDE_M>;
var<workgroup> tile_w: array<vec4<f32>, TILE_K * STRIDE_N>;

// Eight k of four consecutive rows of the weights.
struct Rows4 {
    row0: Pack,
    row1: Pack,
    row2: Pack,
    row3: Pack,
}

// Loads four k of four rows of x.
fn load_x(first_m: u32, k4: u32) -> mat4x4<f32> {
    let width4 = params.k8 * 2u;
    let rows = min(vec4<u32>(first_m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(step.n_rows - 1u));
    let at = rows * width4 + min(k4, width4 - 1u);
    return mat4x4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn load_w(first_n: u32, k: u32) -> Rows4 {
    let k8 = params.k8;
    if (first_n >= params.n || k >= k8) {
        return Rows4();
    }
    let at = row_start(first_n, params.n, k8) + k * pack_step(first_n, params.n);
    let row = row_step(first_n, params.n, k8);
    return Rows4(weights[at], weights[at + row], weights[at + 2u * row], weights[at + 3u * row]);
}

fn keep_x(value: mat4x4<f32>, row4: u32, k4: u32) {
    let columns = transpose(value);
    let at = k4 * 4u * STRIDE_M + row4;
    tile_x[at] = columns[0];
    tile_x[at + STRIDE_M] = columns[1];
    tile_x[at + 2u * STRIDE_M] = columns[2];
    tile_x[at + 3u * STRIDE_M] = columns[3];
}

fn keep_w(rows: Rows4, row4: u32, k: u32) {
    let row0 = unpack8(rows.row0);
    let row1 = unpack8(rows.row1);
    let row2 = unpack8(rows.row2);
    let row3 = unpack8(rows.row3);
    let low = transpose(mat4x4<f32>(row0[0], row1[0], row2[0], row3[0]));
    let high = transpose(mat4x4<f32>(row0[1], row1[1], row2[1], row3[1]));
    let at = k * 8u * STRIDE_N + row4;
    tile_w[at] = low[0];
    tile_w[at + STRIDE_N] = low[1];
    tile_w[at + 2u * STRIDE_N] = low[2];
    tile_w[at + 3u * STRIDE_N] = low[3];
    tile_w[at + 4u * STRIDE_N] = high[0];
    tile_w[at + 5u * STRIDE_N] = high[1];
    tile_w[at + 6u * STRIDE_N] = high[2];
    tile_w[at + 7u * STRIDE_N] = high[3];
}

// Adds the outer product of four x and four weights to `sum`. Each column of `sum` is a
// row of outputs.
fn add_outer(x4: vec4<f32>, w4: vec4<f32>, sum: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        fma(vec4<f32>(x4.x), w4, sum[0]),
        fma(vec4<f32>(x4.y), w4, sum[1]),
        fma(vec4<f32>(x4.z), w4, sum[2]),
        fma(vec4<f32>(x4.w), w4, sum[3]),
    );
}

// `split` is the index of this workgroup among those that share k.
fn store_rows(m: u32, n4: u32, split: u32, sum: mat4x4<f32>) {
    if (n4 * 4u >= params.n) {
        return;
    }
    let row = split * step.n_rows + m;
    if (m < step.n_rows) { store_output(row, n4, sum[0]); }
    if (m + 1u < step.n_rows) { store_output(row + 1u, n4, sum[1]); }
    if (m + 2u < step.n_rows) { store_output(row + 2u, n4, sum[2]); }
    if (m + 3u < step.n_rows) { store_output(row + 3u, n4, sum[3]); }
}

@compute @workgroup_size(THREADS)
fn gemm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let thread_m = lane / THREADS_N;
    let thread_n = lane % THREADS_N;

    // The first threads load x, and the last ones the weights. Adjacent threads load
    // adjacent k of one row.
    let x_row4 = lane / (TILE_K / 4u);
    let x_k4 = lane % (TILE_K / 4u);
    let loads_x = lane < LOADS_X;
    let w_load = lane - (THREADS - LOADS_W);
    let w_row4 = w_load / (TILE_K / 8u);
    let w_k = w_load % (TILE_K / 8u);
    let loads_w = lane >= THREADS - LOADS_W;
    let x_m = group.y * TILE_M + x_row4 * 4u;
    let w_n = group.x * TILE_N + w_row4 * 4u;

    let n_tiles = (params.k8 + TILE_K / 8u - 1u) / (TILE_K / 8u);
    let share = (n_tiles + SPLITS - 1u) / SPLITS;
    let first = group.z * share;
    let end = min(first + share, n_tiles);

    var next_x = mat4x4<f32>();
    var next_w = Rows4();
    if (loads_x) { next_x = load_x(x_m, first * (TILE_K / 4u) + x_k4); }
    if (loads_w) { next_w = load_w(w_n, first * (TILE_K / 8u) + w_k); }
    var block = Block();
    for (var tile = first; tile < end; tile++) {
        if (loads_x) { keep_x(next_x, x_row4, x_k4); }
        if (loads_w) { keep_w(next_w, w_row4, w_k); }
        workgroupBarrier();
        if (loads_x) { next_x = load_x(x_m, (tile + 1u) * (TILE_K / 4u) + x_k4); }
        if (loads_w) { next_w = load_w(w_n, (tile + 1u) * (TILE_K / 8u) + w_k); }
        var x_at = thread_m;
        var w_at = thread_n;
        for (var i = 0u; i < TILE_K; i += 4u) {
            block = block_add(block, x_at, w_at);
            block = block_add(block, x_at + STRIDE_M, w_at + STRIDE_N);
            block = block_add(block, x_at + 2u * STRIDE_M, w_at + 2u * STRIDE_N);
            block = block_add(block, x_at + 3u * STRIDE_M, w_at + 3u * STRIDE_N);
            x_at += 4u * STRIDE_M;
            w_at += 4u * STRIDE_N;
        }
        workgroupBarrier();
    }
    let m = group.y * TILE_M + thread_m * 4u;
    let n4 = group.x * (TILE_N / 4u) + thread_n;
    block_store(block, m, n4, group.z);
}
