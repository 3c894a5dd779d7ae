// The KV pool in up to four slabs (each at most one binding), for reading.
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(9) var<storage, read> kv0: array<Pack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(10) var<storage, read> kv1: array<Pack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(11) var<storage, read> kv2: array<Pack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(12) var<storage, read> kv3: array<Pack>;

fn kv_load(slab: u32, index: u32) -> mat2x4<f32> {
    switch slab {
        case 1u: { return unpack8(kv1[index]); }
        case 2u: { return unpack8(kv2[index]); }
        case 3u: { return unpack8(kv3[index]); }
        default: { return unpack8(kv0[index]); }
    }
}

