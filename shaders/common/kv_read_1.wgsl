// The KV pool in one slab, for reading.
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM] in packs
@group(0) @binding(9) var<storage, read> kv0: array<KvPack>;

fn kv_load(slab: u32, index: u32) -> KvValues {
    return kv_unpack(kv0[index]);
}

