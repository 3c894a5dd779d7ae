// scores[kv_head, item, j - start] = exp(score - largest score of the item),
// or 0 if the item's row does not see j
//
// This is the second of three prefill attention kernels for software adapters. It
// overwrites the scores that attention_prefill_scores wrote. One thread processes one
// item, so each weight needs one exp. The zeros extend as far as attention_prefill_values
// reads: to the last position that a row of the block sees in the item's sequence,
// rounded up to a multiple of four.
//
// Fragments in common/: step, pack_f16 | pack_f32 | pack_f16_wide | pack_f32_wide,
// load_plain | load_wide, rows_chunk | rows_batch, softmax, kv_layout, kv_by_8,
// kv_read_1 | kv_read_4, window, soft_cap, attention, dot4, prefill_items.

// [n_kv_head, score_items, score_keys / 4]
@group(0) @binding(4) var<storage, read_write> scores: array<Load4>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_weights(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let kv_head = group.y;
    let n_items = step.n_rows * params.group;
    let item = group.x * WORKGROUP_SIZE + lane;
    if (item >= n_items) {
        return;
    }
    let row = item / params.group;
    let first_item = item / ITEMS * ITEMS;
    let last_row = (min(first_item + ITEMS, n_items) - 1u) / params.group;
    var run = first_item / params.group;
    var run_end = row_run_end(run, last_row);
    while (run_end < row) {
        run = run_end + 1u;
        run_end = row_run_end(run, last_row);
    }
    let start = scores_start(run);
    let end = row_position(run_end) + 1u;
    // The row sees the positions from `own_first` on, and before `own_end`.
    let own_end = row_position(row) + 1u;
    let own_first = first_seen(own_end, params.window);
    let first = scores_of(kv_head, vec4<u32>(item)).x;
    var largest4 = vec4<f32>(MASKED);
    for (var key = own_first / 4u * 4u; key < own_end; key += 4u) {
        let score = load4(scores[first + (key - start) / 4u]);
        largest4 = max(largest4, select(vec4<f32>(MASKED), score, visible(key, own_first, own_end)));
    }
    let largest = max(max(largest4.x, largest4.y), max(largest4.z, largest4.w));
    for (var key = start; key < end; key += 4u) {
        let at = first + (key - start) / 4u;
        let seen = visible(key, own_first, own_end);
        let score = select(vec4<f32>(MASKED), load4(scores[at]), seen);
        scores[at] = store4(select(vec4<f32>(0.0), exp4_nonpositive(score - largest), seen));
    }
}

// Returns, for each of four consecutive positions, whether it is from `first` on and
// before `end`.
fn visible(key: u32, first: u32, end: u32) -> vec4<bool> {
    let keys = vec4<u32>(key) + vec4<u32>(0u, 1u, 2u, 3u);
    return (keys >= vec4<u32>(first)) & (keys < vec4<u32>(end));
}
