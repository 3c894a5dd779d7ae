// The KV pool in up to four slabs, each small enough for one binding, for writing.
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(9) var<storage, read_write> kv0: array<Pack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(10) var<storage, read_write> kv1: array<Pack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(11) var<storage, read_write> kv2: array<Pack>;
// [pages of the slab, 2, n_kv_head, PAGE_SIZE, HEAD_DIM]
@group(0) @binding(12) var<storage, read_write> kv3: array<Pack>;

fn kv_store(slab: u32, index: u32, value: mat2x4<f32>) {
    switch slab {
        case 1u: { kv1[index] = pack8(value); }
        case 2u: { kv2[index] = pack8(value); }
        case 3u: { kv3[index] = pack8(value); }
        default: { kv0[index] = pack8(value); }
    }
}

