// out[item, :] = sum over j of weights[kv_head, item, j - start] * v[j, kv_head]
//    / sum over j of weights[kv_head, item, j - start]
//
// This is the last of three prefill attention kernels for software adapters. It follows
// attention_prefill_weights. One thread computes eight consecutive elements of ITEMS
// items, without a barrier, so each gathered value serves several sums. The lanes of a
// workgroup have different elements. Positions are processed in ascending order and in
// aligned groups of four. The sums of a row therefore depend neither on its chunk nor on
// rows of other sequences in the same pass. Positions that no row of a sequence sees are
// skipped.
// Ragged edges: items beyond the last item repeat it, elements beyond the head repeat the
// last element, and neither are stored. In a group of four, positions before the first
// visible one and after the last one repeat that position, because NaN may be stored
// there. Their weights are 0.
//
// Fragments in common/: step, pack_f16 | pack_f32 | pack_f16_wide | pack_f32_wide,
// load_plain | load_wide, rows_chunk | rows_batch, softmax, kv_layout, kv_by_8,
// kv_read_1 | kv_read_4, window, soft_cap, attention, dot4, prefill_items.

const_assert PAGE_SIZE % 4u == 0u;

// [n_rows, out_stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_kv_head, score_items, score_keys / 4]
@group(0) @binding(5) var<storage, read> weights: array<Load4>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_values(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let kv_head = group.z;
    let own_pack = group.y * WORKGROUP_SIZE + lane;
    let pack = min(own_pack, params.packs - 1u);
    let block = items_of(group.x, kv_head);
    let rows = block.rows;
    let first = scores_of(kv_head, block.items);
    let to = rows * params.out_stride4 + block.heads * (HEAD_DIM / 4u) + 2u * pack;
    var run = rows.x;
    while (run <= rows.w) {
        let run_end = row_run_end(run, rows.w);
        let run_first = first_seen(row_position(run) + 1u, params.window);
        let start = scores_start(run);
        let last = row_position(run_end);
        var acc0 = mat2x4<f32>();
        var acc1 = mat2x4<f32>();
        var acc2 = mat2x4<f32>();
        var acc3 = mat2x4<f32>();
        var sums = vec4<f32>(0.0);
        for (var key = run_first / 4u * 4u; key <= last; key += 4u) {
            let entry = page_table[row_page(run, key / PAGE_SIZE)];
            let slab = kv_slab(entry);
            let v = kv_run(entry, 1u, kv_head, params.n_kv_head) + pack;
            let keys = vec4<u32>(key) + vec4<u32>(0u, 1u, 2u, 3u);
            let loaded = clamp(keys, vec4<u32>(run_first), vec4<u32>(last)) % PAGE_SIZE * params.packs;
            let at = first + (key - start) / 4u;
            let w0 = load4(weights[at.x]);
            let w1 = load4(weights[at.y]);
            let w2 = load4(weights[at.z]);
            let w3 = load4(weights[at.w]);
            sums += vec4<f32>(sum4(w0), sum4(w1), sum4(w2), sum4(w3));
            let v0 = kv_load(slab, v + loaded.x);
            let v1 = kv_load(slab, v + loaded.y);
            let v2 = kv_load(slab, v + loaded.z);
            let v3 = kv_load(slab, v + loaded.w);
            acc0 = add_values(v0, v1, v2, v3, w0, acc0);
            acc1 = add_values(v0, v1, v2, v3, w1, acc1);
            acc2 = add_values(v0, v1, v2, v3, w2, acc2);
            acc3 = add_values(v0, v1, v2, v3, w3, acc3);
        }
        let stored = of_run(block, run, run_end);
        if (own_pack == pack) {
            if (stored.x) { store(to.x, acc0, sums.x); }
            if (stored.y) { store(to.y, acc1, sums.y); }
            if (stored.z) { store(to.z, acc2, sums.z); }
            if (stored.w) { store(to.w, acc3, sums.w); }
        }
        run = run_end + 1u;
    }
}

fn add_values(
    v0: mat2x4<f32>,
    v1: mat2x4<f32>,
    v2: mat2x4<f32>,
    v3: mat2x4<f32>,
    weight: vec4<f32>,
    acc: mat2x4<f32>,
) -> mat2x4<f32> {
    return mat2x4<f32>(
        add_scaled(v0[0], v1[0], v2[0], v3[0], weight, acc[0]),
        add_scaled(v0[1], v1[1], v2[1], v3[1], weight, acc[1]),
    );
}

fn sum4(value: vec4<f32>) -> f32 {
    return value.x + value.y + value.z + value.w;
}

fn store(at: u32, acc: mat2x4<f32>, sum: f32) {
    out[at] = acc[0] / sum;
    out[at + 1u] = acc[1] / sum;
}
