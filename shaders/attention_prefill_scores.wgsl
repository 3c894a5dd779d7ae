// scores[kv_head, j - start, item] = cap(scale * q[item] . k[j, kv_head]) for j <= position of its row
//
// The first half of prefill attention for CPU adapters: attention_prefill_values
// is the second. An item is a row with one of the `group` heads of q that share a kv
// head. One thread computes one item against KEYS neighbouring positions, without a
// barrier; the lanes of a workgroup differ in the item alone, so each key is loaded
// once for all rows of a sequence and all heads of a group. Two small kernels without
// private arrays compile ten times faster there than one with them. Rows of several
// sequences are treated one sequence after the other; `start` is the block of KEYS that
// the first row of a workgroup's begins to see, and what lies above the diagonal of the
// last one is skipped. Ragged edge: items beyond the last repeat it and are not stored;
// positions that a row does not see, which may hold anything, are not read later.

// Four sums in registers; a block lies in one page.
const_assert KEYS == 4u && PAGE_SIZE % KEYS == 0u;

// [n_kv_head, score_keys, score_items]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_prefill_scores(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let kv_head = group.z;
    let own_item = group.x * WORKGROUP_SIZE + lane;
    let first_item = group.x * WORKGROUP_SIZE;
    let last_item = min(first_item + WORKGROUP_SIZE, step.n_rows * params.group) - 1u;
    let last_row = last_item / params.group;
    let item = min(own_item, last_item);
    let row = item / params.group;
    let head = kv_head * params.group + item % params.group;
    let query = row * params.qkv_stride4 + head * (HEAD_DIM / 4u);
    let packs = params.packs;
    let factor = vec4<f32>(params.scale);
    let to = (kv_head * params.score_keys + group.y * KEYS) * params.score_items + item;
    var run = first_item / params.group;
    while (run <= last_row) {
        let run_end = row_run_end(run, last_row);
        let start = first_seen(row_position(run) + 1u, params.window) / KEYS * KEYS;
        let first_key = start + group.y * KEYS;
        if (first_key <= row_position(run_end)) {
            let entry = page_table[row_page(run, first_key / PAGE_SIZE)];
            let slab = kv_slab(entry);
            let k = kv_run(entry, 0u, kv_head, params.n_kv_head) + (first_key % PAGE_SIZE) * packs;
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
            if (own_item == item && row >= run && row <= run_end) {
                let dots = vec4<f32>(dot(sum0, factor), dot(sum1, factor), dot(sum2, factor), dot(sum3, factor));
                let score = capped(dots, params.soft_cap);
                scores[to] = score.x;
                scores[to + params.score_items] = score.y;
                scores[to + 2u * params.score_items] = score.z;
                scores[to + 3u * params.score_items] = score.w;
            }
        }
        run = run_end + 1u;
    }
}
