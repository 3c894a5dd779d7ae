// out[item, :] = sum over visible j of softmax_j(scores[kv_head, j - start, item]) * v[j, kv_head]
//
// The second half of prefill attention for CPU adapters, behind
// attention_prefill_scores, whose items and `start` are these. One thread computes eight
// neighbouring elements of one item, without a barrier; the lanes of a workgroup differ
// in the item alone, so each value is loaded once for all rows of a sequence and all
// heads of a group. The largest score comes first, so that each weight takes one exp.
// Positions come in rising order, so that a row's sums do not depend on the chunk it
// came in, nor on what other sequences' rows are beside it; positions that no row of a
// sequence sees are skipped. Ragged edge: items beyond the last repeat it and are not
// stored.

// [n_rows, 4 * out_stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_kv_head, score_keys, score_items]
@group(0) @binding(5) var<storage, read> scores: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_values(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pack = group.y;
    let kv_head = group.z;
    let own_item = group.x * WORKGROUP_SIZE + lane;
    let first_item = group.x * WORKGROUP_SIZE;
    let last_item = min(first_item + WORKGROUP_SIZE, step.n_rows * params.group) - 1u;
    let last_row = last_item / params.group;
    let item = min(own_item, last_item);
    let row = item / params.group;
    let head = kv_head * params.group + item % params.group;
    // Those that the row sees: from `own_first` on, before `own_end`.
    let own_end = row_position(row) + 1u;
    let own_first = first_seen(own_end, params.window);
    let packs = params.packs;
    let first = kv_head * params.score_keys * params.score_items + item;
    let to = row * params.out_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
    var run = first_item / params.group;
    while (run <= last_row) {
        let run_end = row_run_end(run, last_row);
        let end = row_position(run_end) + 1u;
        let run_first = first_seen(row_position(run) + 1u, params.window);
        // Of position 0 if the scores went on before their start.
        let origin = first - run_first / KEYS * KEYS * params.score_items;
        var largest = MASKED;
        for (var key = run_first; key < end; key++) {
            let score = scores[origin + key * params.score_items];
            largest = max(largest, select(MASKED, score, key >= own_first && key < own_end));
        }
        var acc = mat2x4<f32>();
        var sum = 0.0;
        for (var key = run_first; key < end; key++) {
            let visible = key >= own_first && key < own_end;
            let score = select(MASKED, scores[origin + key * params.score_items], visible);
            let weight = select(0.0, exp_nonpositive(score - largest), visible);
            let entry = page_table[row_page(run, key / PAGE_SIZE)];
            let v = kv_run(entry, 1u, kv_head, params.n_kv_head) + (key % PAGE_SIZE) * packs + pack;
            sum += weight;
            acc += kv_load(kv_slab(entry), v) * weight;
        }
        if (own_item == item && row >= run && row <= run_end) {
            out[to] = acc[0] / sum;
            out[to + 1u] = acc[1] / sum;
        }
        run = run_end + 1u;
    }
}
