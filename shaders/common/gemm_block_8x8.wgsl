// The outputs of a gemm thread: two groups of four rows, by two groups of four columns.
// The groups are half a tile apart, so adjacent threads read adjacent vectors.
const_assert BLOCK_M == 8u && BLOCK_N == 8u;

struct Block {
    upper_left: mat4x4<f32>,
    upper_right: mat4x4<f32>,
    lower_left: mat4x4<f32>,
    lower_right: mat4x4<f32>,
}

// Adds the products for one k of the tiles in workgroup memory.
fn block_add(block: Block, x_at: u32, w_at: u32) -> Block {
    let upper = tile_x[x_at];
    let lower = tile_x[x_at + THREADS_M];
    let left = tile_w[w_at];
    let right = tile_w[w_at + THREADS_N];
    return Block(
        add_outer(upper, left, block.upper_left),
        add_outer(upper, right, block.upper_right),
        add_outer(lower, left, block.lower_left),
        add_outer(lower, right, block.lower_right),
    );
}

fn block_store(block: Block, m: u32, n4: u32, split: u32) {
    let lower = m + THREADS_M * 4u;
    store_rows(m, n4, split, block.upper_left);
    store_rows(m, n4 + THREADS_N, split, block.upper_right);
    store_rows(lower, n4, split, block.lower_left);
    store_rows(lower, n4 + THREADS_N, split, block.lower_right);
}

