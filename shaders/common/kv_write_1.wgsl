// The KV pool in one slab, for writing.
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(9) var<storage, read_write> kv0: array<Pack>;

fn kv_store(slab: u32, index: u32, value: mat2x4<f32>) {
    kv0[index] = pack8(value);
}

