// out[item, :] = sum over j of weights[kv_head, item, j - start] * v[j, kv_head] / sum over j of the weights
//
// The last of three kernels of prefill attention for CPU adapters, behind
// attention_prefill_weights; items, blocks of them and `start` are those of
// attention_prefill_scores. One thread computes eight neighbouring elements of ITEMS items,
// without a barrier, so that what it gathers serves several sums; the lanes of a workgroup
// differ in the elements. Positions come in rising order and by aligned fours, so that a
// row's sums do not depend on the chunk it came in, nor on what other sequences' rows are
// beside it; positions that no row of a sequence sees are skipped. Ragged edges: items
// beyond the last and elements beyond the head repeat the last and are not stored; of four
// positions, those in front of the first one that is seen and behind the last one, whose
// weights are 0, repeat them, since what lies there may be no number.

const_assert ITEMS == 4u && PAGE_SIZE % 4u == 0u;

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
    let n_items = step.n_rows * params.group;
    let own_pack = group.y * WORKGROUP_SIZE + lane;
    let pack = min(own_pack, params.packs - 1u);
    let own_items = vec4<u32>(group.x * ITEMS) + vec4<u32>(0u, 1u, 2u, 3u);
    let items = min(own_items, vec4<u32>(n_items - 1u));
    let rows = items / params.group;
    let first = (vec4<u32>(kv_head * params.score_items) + items) * (params.score_keys / 4u);
    let heads = vec4<u32>(kv_head * params.group) + items % params.group;
    let to = rows * params.out_stride4 + heads * (HEAD_DIM / 4u) + 2u * pack;
    var run = rows.x;
    while (run <= rows.w) {
        let run_end = row_run_end(run, rows.w);
        let run_first = first_seen(row_position(run) + 1u, params.window);
        let start = run_first / KEYS * KEYS;
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
            acc0 += v0 * w0.x;
            acc1 += v0 * w1.x;
            acc2 += v0 * w2.x;
            acc3 += v0 * w3.x;
            let v1 = kv_load(slab, v + loaded.y);
            acc0 += v1 * w0.y;
            acc1 += v1 * w1.y;
            acc2 += v1 * w2.y;
            acc3 += v1 * w3.y;
            let v2 = kv_load(slab, v + loaded.z);
            acc0 += v2 * w0.z;
            acc1 += v2 * w1.z;
            acc2 += v2 * w2.z;
            acc3 += v2 * w3.z;
            let v3 = kv_load(slab, v + loaded.w);
            acc0 += v3 * w0.w;
            acc1 += v3 * w1.w;
            acc2 += v3 * w2.w;
            acc3 += v3 * w3.w;
        }
        // Items of the run alone, each once.
        let stored = (rows >= vec4<u32>(run)) & (rows <= vec4<u32>(run_end)) & (own_items == items);
        if (own_pack == pack) {
            if (stored.x) { store(to.x, acc0, sums.x); }
            if (stored.y) { store(to.y, acc1, sums.y); }
            if (stored.z) { store(to.z, acc2, sums.z); }
            if (stored.w) { store(to.w, acc3, sums.w); }
        }
        run = run_end + 1u;
    }
}

fn sum4(value: vec4<f32>) -> f32 {
    return value.x + value.y + value.z + value.w;
}

fn store(at: u32, acc: mat2x4<f32>, sum: f32) {
    out[at] = acc[0] / sum;
    out[at + 1u] = acc[1] / sum;
}
