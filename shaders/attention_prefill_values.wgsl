// out[row, head, :] = sum over j <= position of row of softmax_j(scores[head, :, row]) * v[j, head]
// (online softmax in f32: Milakov and Gimelshein 2018)
//
// The second half of prefill attention for CPU adapters, behind
// attention_prefill_scores. One thread computes eight neighbouring elements of
// one row of one head, without a barrier; the lanes of a workgroup differ in the
// row alone, so each value is loaded once for all rows of a sequence. Positions
// come in rising order, so that a row's sums do not depend on the chunk it came
// in, nor on what other sequences' rows are beside it; positions above the
// diagonal of a sequence's last row are skipped. Ragged edge: rows beyond the last
// repeat it and are not stored.

// [n_rows, 4 * out_stride4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_head, score_keys, score_rows]
@group(0) @binding(5) var<storage, read> scores: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_values(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pack = group.y;
    let head = group.z;
    let first_row = group.x * WORKGROUP_SIZE;
    let last_row = min(first_row + WORKGROUP_SIZE, step.n_rows) - 1u;
    let row = min(first_row + lane, last_row);
    let own_keys = row_position(row) + 1u;
    let packs = params.packs;
    let first = head * params.score_keys * params.score_rows + row;
    let to = row * params.out_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
    var run = first_row;
    while (run <= last_row) {
        let run_end = row_run_end(run, last_row);
        let n_keys = row_position(run_end) + 1u;
        var acc = mat2x4<f32>();
        var running_max = MASKED;
        var running_sum = 0.0;
        for (var key = 0u; key < n_keys; key++) {
            let visible = key < own_keys;
            let score = select(MASKED, scores[first + key * params.score_rows], visible);
            let new_max = max(running_max, score);
            let correction = exp_nonpositive(running_max - new_max);
            let weight = select(0.0, exp_nonpositive(score - new_max), visible);
            running_max = new_max;
            running_sum = running_sum * correction + weight;
            let entry = page_table[row_page(run, key / PAGE_SIZE)];
            let v = kv_run(entry, 1u, head, params.n_head) + (key % PAGE_SIZE) * packs + pack;
            acc = acc * correction + kv_load(kv_slab(entry), v) * weight;
        }
        if (first_row + lane >= run && first_row + lane <= run_end) {
            out[to] = acc[0] / running_sum;
            out[to + 1u] = acc[1] / running_sum;
        }
        run = run_end + 1u;
    }
}
