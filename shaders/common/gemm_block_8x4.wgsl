// The outputs of a gemm thread: two groups of four rows, by four columns. The groups are
// half a tile apart, so adjacent threads read adjacent vectors.
const_assert BLOCK_M == 8u && BLOCK_N == 4u;

struct Block {
    upper: mat4x4<f32>,
    lower: mat4x4<f32>,
}

// Adds the products for one k of the tiles in workgroup memory.
fn block_add(block: Block, x_at: u32, w_at: u32) -> Block {
    let w = tile_w[w_at];
    return Block(
        add_outer(tile_x[x_at], w, block.upper),
        add_outer(tile_x[x_at + THREADS_M], w, block.lower),
    );
}

fn block_store(block: Block, m: u32, n4: u32, split: u32) {
    store_rows(m, n4, split, block.upper);
    store_rows(m + THREADS_M * 4u, n4, split, block.lower);
}

