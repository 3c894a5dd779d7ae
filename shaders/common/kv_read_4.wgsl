// The KV pool in up to four slabs, each small enough for one binding, for reading.
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM] in packs
@group(0) @binding(9) var<storage, read> kv0: array<KvPack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM] in packs
@group(0) @binding(10) var<storage, read> kv1: array<KvPack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM] in packs
@group(0) @binding(11) var<storage, read> kv2: array<KvPack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM] in packs
@group(0) @binding(12) var<storage, read> kv3: array<KvPack>;

fn kv_load(slab: u32, index: u32) -> KvValues {
    switch slab {
        case 1u: { return kv_unpack(kv1[index]); }
        case 2u: { return kv_unpack(kv2[index]); }
        case 3u: { return kv_unpack(kv3[index]); }
        default: { return kv_unpack(kv0[index]); }
    }
}

