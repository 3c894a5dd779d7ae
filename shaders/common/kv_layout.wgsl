// Where a position's keys and values stand in the paged cache.
//
// A page holds PAGE_SIZE positions of one layer: [2 (k, v), n_kv_head, PAGE_SIZE,
// HEAD_DIM]. The page table maps a session's page number to a slab (one
// buffer) in the upper 8 bits and a page within it in the lower 24.

// Index of the first Pack of the run [PAGE_SIZE, HEAD_DIM] of one kv head.
fn kv_run(entry: u32, part: u32, kv_head: u32, n_kv_head: u32) -> u32 {
    let page = entry & 0xffffffu;
    return ((page * 2u + part) * n_kv_head + kv_head) * (PAGE_SIZE * HEAD_DIM / 8u);
}

fn kv_slab(entry: u32) -> u32 {
    return entry >> 24u;
}

