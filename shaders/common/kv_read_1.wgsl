// The KV pool in one slab, for reading.
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(9) var<storage, read> kv0: array<Pack>;

fn kv_load(slab: u32, index: u32) -> mat2x4<f32> {
    return unpack8(kv0[index]);
}

