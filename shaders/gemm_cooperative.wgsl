// out[m, n] = activate(sum over k of f16(x[m, k]) * f16(weights[n, k]) + bias[n])  [+ out[m, n]]
//
// This kernel is for matrix units, with f16 factors and f32 sums. One workgroup of 128
// threads computes a tile of TILE_M x TILE_N outputs in four blocks. A block consists of
// 4 x 2 matrices of SIDE x SIDE, which a subgroup holds in registers. Tiles of x and of
// the weights pass through workgroup memory while the next tiles wait in registers. Both
// are rounded to f16; values beyond its range become its largest value. If a workgroup
// has fewer than four subgroups, they process the blocks in rounds. If it has more, the
// others compute the last block again and drop it. The elements of a matrix are
// accessible only through memory, and operations on it must not be in a branch. Results
// therefore reach the epilogue through workgroup memory, and everything is padded.
// Ragged edge: rows of x beyond M repeat the last one and are not stored. Weights beyond
// n and k are loaded as zeros.
//
// Fragments in common/: step, pack_f16 | pack_f32, weights_rows | weights_blocks,
// activation, soft_cap, matmul, rope | rope_none, rows_chunk | rows_batch | none,
// cooperative_8 | cooperative_16.

const THREADS: u32 = 128u;
const BLOCKS: u32 = 4u;
const BLOCK_M: u32 = 4u * SIDE;
const BLOCK_N: u32 = 2u * SIDE;
const_assert TILE_M == 2u * BLOCK_M && TILE_N == 2u * BLOCK_N && TILE_K % SIDE == 0u;
// Loads per thread: four loads of four k of x, and one of eight k of the weights.
const_assert TILE_M * TILE_K == 16u * THREADS && TILE_N * TILE_K == 8u * THREADS;
// 16 bytes of padding per row, so that rows use different banks and stay aligned.
const STRIDE: u32 = TILE_K + 8u;
const MATRIX: u32 = SIDE * SIDE;
const F16_MAX: f32 = 65504.0;

// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// [TILE_M, TILE_K] and [TILE_N, TILE_K]
var<workgroup> tile_x: array<f16, TILE_M * STRIDE>;
var<workgroup> tile_w: array<f16, TILE_N * STRIDE>;
// [BLOCKS + 1, SIDE, SIDE]: one matrix of each block. The last entry is for subgroups
// without a block and is not read.
var<workgroup> matrices: array<f32, (BLOCKS + 1u) * MATRIX>;

struct Place {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
}

// Loads four k of four rows of x, a quarter of a tile apart.
fn load_x(first_m: u32, k4: u32) -> mat4x4<f32> {
    let width4 = params.k8 * 2u;
    let rows = min(
        vec4<u32>(first_m) + vec4<u32>(0u, 1u, 2u, 3u) * (TILE_M / 4u),
        vec4<u32>(step.n_rows - 1u),
    );
    let at = rows * width4 + min(k4, width4 - 1u);
    return mat4x4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn load_w(n: u32, k: u32) -> mat2x4<f32> {
    if (n >= params.n || k >= params.k8) {
        return mat2x4<f32>();
    }
    return unpack8(weights[row_start(n, params.n, params.k8) + k * pack_step(n, params.n)]);
}

fn round4(value: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(value, vec4<f32>(-F16_MAX), vec4<f32>(F16_MAX)));
}

fn keep_x4(value: vec4<f32>, row: u32, k4: u32) {
    let at = row * STRIDE + k4 * 4u;
    let rounded = round4(value);
    tile_x[at] = rounded.x;
    tile_x[at + 1u] = rounded.y;
    tile_x[at + 2u] = rounded.z;
    tile_x[at + 3u] = rounded.w;
}

fn keep_w4(value: vec4<f32>, row: u32, k4: u32) {
    let at = row * STRIDE + k4 * 4u;
    let rounded = round4(value);
    tile_w[at] = rounded.x;
    tile_w[at + 1u] = rounded.y;
    tile_w[at + 2u] = rounded.z;
    tile_w[at + 3u] = rounded.w;
}

// Applies the epilogue to one matrix of each block of a round. `m` and `n` count from the
// block's start. Call in uniform control flow.
fn store_matrices(place: Place, origin: vec2<u32>, first_block: u32, m: u32, n: u32) {
    workgroupBarrier();
    let n_vectors = min(place.n_subgroups, BLOCKS) * (MATRIX / 4u);
    for (var i = place.lane; i < n_vectors; i += THREADS) {
        let block = first_block + i / (MATRIX / 4u);
        let row = origin.y + block / 2u * BLOCK_M + m + i / (SIDE / 4u) % SIDE;
        let column = origin.x + block % 2u * BLOCK_N + n + i % (SIDE / 4u) * 4u;
        // The last round may have fewer blocks than subgroups.
        if (block < BLOCKS && row < step.n_rows && column < params.n) {
            let at = i * 4u;
            let sum = vec4<f32>(matrices[at], matrices[at + 1u], matrices[at + 2u], matrices[at + 3u]);
            epilogue(row, column / 4u, sum);
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn gemm_cooperative(@builtin(workgroup_id) group: vec3<u32>, place: Place) {
    let origin = vec2<u32>(group.x * TILE_N, group.y * TILE_M);
    let x_row = place.lane / (TILE_K / 4u);
    let x_k4 = place.lane % (TILE_K / 4u);
    let w_row = place.lane / (TILE_K / 8u);
    let w_k = place.lane % (TILE_K / 8u);
    let n_tiles = (params.k8 + TILE_K / 8u - 1u) / (TILE_K / 8u);
    let slot = min(place.subgroup, BLOCKS) * MATRIX;

    for (var first_block = 0u; first_block < BLOCKS; first_block += place.n_subgroups) {
        let block = min(first_block + place.subgroup, BLOCKS - 1u);
        let x_at = block / 2u * BLOCK_M * STRIDE;
        let w_at = block % 2u * BLOCK_N * STRIDE;

        for (var i = place.lane; i < MATRIX; i += THREADS) {
            matrices[i] = 0.0;
        }
        workgroupBarrier();
        var sum00 = coopLoadT<MatrixC>(&matrices[0], SIDE);
        var sum01 = sum00;
        var sum10 = sum00;
        var sum11 = sum00;
        var sum20 = sum00;
        var sum21 = sum00;
        var sum30 = sum00;
        var sum31 = sum00;

        var next_x = load_x(origin.y + x_row, x_k4);
        var next_w = load_w(origin.x + w_row, w_k);
        for (var tile = 0u; tile < n_tiles; tile++) {
            keep_x4(next_x[0], x_row, x_k4);
            keep_x4(next_x[1], x_row + TILE_M / 4u, x_k4);
            keep_x4(next_x[2], x_row + TILE_M / 2u, x_k4);
            keep_x4(next_x[3], x_row + TILE_M / 4u * 3u, x_k4);
            keep_w4(next_w[0], w_row, w_k * 2u);
            keep_w4(next_w[1], w_row, w_k * 2u + 1u);
            workgroupBarrier();
            next_x = load_x(origin.y + x_row, (tile + 1u) * (TILE_K / 4u) + x_k4);
            next_w = load_w(origin.x + w_row, (tile + 1u) * (TILE_K / 8u) + w_k);
            for (var k = 0u; k < TILE_K; k += SIDE) {
                // The weights are the product's right side, stored by column.
                let w0 = coopLoad<MatrixB>(&tile_w[w_at + k], STRIDE);
                let w1 = coopLoad<MatrixB>(&tile_w[w_at + SIDE * STRIDE + k], STRIDE);
                let x0 = coopLoadT<MatrixA>(&tile_x[x_at + k], STRIDE);
                sum00 = coopMultiplyAdd(x0, w0, sum00);
                sum01 = coopMultiplyAdd(x0, w1, sum01);
                let x1 = coopLoadT<MatrixA>(&tile_x[x_at + SIDE * STRIDE + k], STRIDE);
                sum10 = coopMultiplyAdd(x1, w0, sum10);
                sum11 = coopMultiplyAdd(x1, w1, sum11);
                let x2 = coopLoadT<MatrixA>(&tile_x[x_at + 2u * SIDE * STRIDE + k], STRIDE);
                sum20 = coopMultiplyAdd(x2, w0, sum20);
                sum21 = coopMultiplyAdd(x2, w1, sum21);
                let x3 = coopLoadT<MatrixA>(&tile_x[x_at + 3u * SIDE * STRIDE + k], STRIDE);
                sum30 = coopMultiplyAdd(x3, w0, sum30);
                sum31 = coopMultiplyAdd(x3, w1, sum31);
            }
            workgroupBarrier();
        }

        coopStoreT(sum00, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, 0u, 0u);
        coopStoreT(sum01, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, 0u, SIDE);
        coopStoreT(sum10, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, SIDE, 0u);
        coopStoreT(sum11, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, SIDE, SIDE);
        coopStoreT(sum20, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, 2u * SIDE, 0u);
        coopStoreT(sum21, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, 2u * SIDE, SIDE);
        coopStoreT(sum30, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, 3u * SIDE, 0u);
        coopStoreT(sum31, &matrices[slot], SIDE);
        store_matrices(place, origin, first_block, 3u * SIDE, SIDE);
    }
}
