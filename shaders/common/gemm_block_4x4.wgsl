// The outputs of a gemm thread: four rows by four columns.
const_assert BLOCK_M == 4u && BLOCK_N == 4u;

struct Block {
    sum: mat4x4<f32>,
}

// Adds the products for one k of the tiles in workgroup memory.
fn block_add(block: Block, x_at: u32, w_at: u32) -> Block {
    return Block(add_outer(tile_x[x_at], tile_w[w_at], block.sum));
}

fn block_store(block: Block, m: u32, n4: u32, split: u32) {
    store_rows(m, n4, split, block.sum);
}

