// scores[head, j, row] = scale * q[row, head] . k[j, head] for j <= position of row
//
// The first half of prefill attention for CPU adapters: attention_prefill_values
// is the second. One thread computes one row of one head against KEYS
// neighbouring positions, without a barrier; the lanes of a workgroup differ in
// the row alone, so each key is loaded once for all rows of a sequence. Two small
// kernels without private arrays compile ten times faster there than one with
// them. Rows of several sequences are treated one sequence after the other; what
// lies above the diagonal of a sequence's last row is skipped. Ragged edge: rows
// beyond the last repeat it and are not stored; positions beyond the last read a
// page's unused end and are not read later.

// Four sums in registers; a block lies in one page.
const_assert KEYS == 4u && PAGE_SIZE % KEYS == 0u;

// [n_head, score_keys, score_rows]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_scores(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.z;
    let first_row = group.x * WORKGROUP_SIZE;
    let last_row = min(first_row + WORKGROUP_SIZE, step.n_rows) - 1u;
    let first_key = group.y * KEYS;
    let row = min(first_row + lane, last_row);
    let query = row * params.qkv_stride4 + head * (HEAD_DIM / 4u);
    let packs = params.packs;
    let factor = vec4<f32>(params.scale);
    let to = (head * params.score_keys + first_key) * params.score_rows + row;
    var run = first_row;
    while (run <= last_row) {
        let run_end = row_run_end(run, last_row);
        if (first_key <= row_position(run_end)) {
            let entry = page_table[row_page(run, first_key / PAGE_SIZE)];
            let slab = kv_slab(entry);
            let k = kv_run(entry, 0u, head, params.n_head) + (first_key % PAGE_SIZE) * packs;
            var sum0 = vec4<f32>(0.0);
            var sum1 = vec4<f32>(0.0);
            var sum2 = vec4<f32>(0.0);
            var sum3 = vec4<f32>(0.0);
            for (var pack = 0u; pack < packs; pack++) {
                let low = load4(qkv[query + 2u * pack]);
                let high = load4(qkv[query + 2u * pack + 1u]);
                let k0 = kv_load(slab, k + pack);
                let k1 = kv_load(slab, k + packs + pack);
                let k2 = kv_load(slab, k + 2u * packs + pack);
                let k3 = kv_load(slab, k + 3u * packs + pack);
                sum0 += k0[0] * low + k0[1] * high;
                sum1 += k1[0] * low + k1[1] * high;
                sum2 += k2[0] * low + k2[1] * high;
                sum3 += k3[0] * low + k3[1] * high;
            }
            if (first_row + lane >= run && first_row + lane <= run_end) {
                scores[to] = dot(sum0, factor);
                scores[to + params.score_rows] = dot(sum1, factor);
                scores[to + 2u * params.score_rows] = dot(sum2, factor);
                scores[to + 3u * params.score_rows] = dot(sum3, factor);
            }
        }
        run = run_end + 1u;
    }
}
