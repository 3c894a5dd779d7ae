// scores[kv_head, item, j - start] = cap(scale * q[item] . k[j, kv_head])
// for j up to the position of the item's row
//
// This is the first of three prefill attention kernels for software adapters.
// attention_prefill_weights and attention_prefill_values follow. prefill_items defines
// items and `start`. One thread computes the scores of ITEMS items at KEYS consecutive
// positions, without a barrier. Software adapters gather each element of a load
// separately, so each loaded value must serve several sums. The lanes of a workgroup have
// different positions. Three small kernels without private arrays compile ten times
// faster on these adapters than one kernel with such arrays. Rows of several sequences
// are processed one sequence after another. Positions above the diagonal of a sequence's
// last row are skipped.
// Ragged edge: items beyond the last one repeat it and are not stored. Scores of
// positions that a row does not see are not read later, so their keys may contain
// anything.
//
// Fragments in common/: step, pack_f16 | pack_f32 | pack_f16_wide | pack_f32_wide,
// load_plain | load_wide, rows_chunk | rows_batch, softmax, kv_layout,
// kv_by_4_f16 | kv_by_4_f16_wide | kv_by_4_f32, kv_read_1 | kv_read_4, window, soft_cap,
// attention, dot4, prefill_items.

// There are 32 sums per thread. A block of positions is within one page.
const_assert KEYS == 8u && PAGE_SIZE % KEYS == 0u;

// [n_kv_head, score_items, score_keys / 4]
@group(0) @binding(4) var<storage, read_write> scores: array<Load4>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_scores(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let kv_head = group.z;
    let block = items_of(group.x, kv_head);
    let rows = block.rows;
    let queries = rows * params.qkv_stride4 + block.heads * (HEAD_DIM / 4u);
    let quads = 2u * params.packs;
    let keys = (group.y * WORKGROUP_SIZE + lane) * KEYS;
    let to = scores_of(kv_head, block.items) + keys / 4u;
    var run = rows.x;
    while (run <= rows.w) {
        let run_end = row_run_end(run, rows.w);
        let first_key = scores_start(run) + keys;
        if (first_key <= row_position(run_end)) {
            let entry = page_table[row_page(run, first_key / PAGE_SIZE)];
            let slab = kv_slab(entry);
            let k = 2u * kv_run(entry, 0u, kv_head, params.n_kv_head) + (first_key % PAGE_SIZE) * quads;
            var low0 = vec4<f32>(0.0);
            var low1 = vec4<f32>(0.0);
            var low2 = vec4<f32>(0.0);
            var low3 = vec4<f32>(0.0);
            var high0 = vec4<f32>(0.0);
            var high1 = vec4<f32>(0.0);
            var high2 = vec4<f32>(0.0);
            var high3 = vec4<f32>(0.0);
            for (var quad = 0u; quad < quads; quad++) {
                let q0 = load4(qkv[queries.x + quad]);
                let q1 = load4(qkv[queries.y + quad]);
                let q2 = load4(qkv[queries.z + quad]);
                let q3 = load4(qkv[queries.w + quad]);
                let low = four_keys(slab, k + quad, quads);
                low0 = add_scores(low, q0, low0);
                low1 = add_scores(low, q1, low1);
                low2 = add_scores(low, q2, low2);
                low3 = add_scores(low, q3, low3);
                let high = four_keys(slab, k + 4u * quads + quad, quads);
                high0 = add_scores(high, q0, high0);
                high1 = add_scores(high, q1, high1);
                high2 = add_scores(high, q2, high2);
                high3 = add_scores(high, q3, high3);
            }
            let stored = of_run(block, run, run_end);
            if (stored.x) { store(to.x, low0, high0); }
            if (stored.y) { store(to.y, low1, high1); }
            if (stored.z) { store(to.z, low2, high2); }
            if (stored.w) { store(to.w, low3, high3); }
        }
        run = run_end + 1u;
    }
}

// Returns four elements of four consecutive keys, one key per column.
fn four_keys(slab: u32, index: u32, stride: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        kv_load(slab, index),
        kv_load(slab, index + stride),
        kv_load(slab, index + 2u * stride),
        kv_load(slab, index + 3u * stride),
    );
}

fn add_scores(keys: mat4x4<f32>, query: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    return add_dots(keys[0], keys[1], keys[2], keys[3], query, sum);
}

fn store(at: u32, low: vec4<f32>, high: vec4<f32>) {
    scores[at] = store4(capped(low * params.scale));
    scores[at + 1u] = store4(capped(high * params.scale));
}
