// The location of the keys and values of a position in the paged cache.
//
// A page holds PAGE_SIZE positions of one layer: [2 (k, v), n_kv_head, PAGE_SIZE,
// HEAD_DIM]. The page table maps each page number of a sequence to an entry: the slab (one
// buffer) in the upper 8 bits, the page within the slab in the lower 24.

// Returns the index of the first Pack in the run [PAGE_SIZE, HEAD_DIM] of one KV head.
// `part` is 0 for k, 1 for v.
fn kv_run(entry: u32, part: u32, kv_head: u32, n_kv_head: u32) -> u32 {
    let page = entry & 0xffffffu;
    return ((page * 2u + part) * n_kv_head + kv_head) * (PAGE_SIZE * HEAD_DIM / 8u);
}

fn kv_slab(entry: u32) -> u32 {
    return entry >> 24u;
}

