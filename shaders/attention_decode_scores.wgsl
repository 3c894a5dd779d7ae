// scores[head, j] = scale * q[head] . k[j, head] for every cached position j
//
// The first half of decode attention for CPU adapters: attention_decode_values
// is the second. One thread computes one position of one head, without a
// barrier. Ragged edge: guarded.

// [n_head, score_keys]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_decode_scores(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.x;
    let key = group.y * WORKGROUP_SIZE + lane;
    if (key >= step.kv_len) {
        return;
    }
    let query = head * (HEAD_DIM / 4u);
    let packs = params.packs;
    let entry = page_table[key / PAGE_SIZE];
    let slab = kv_slab(entry);
    let k = kv_run(entry, 0u, head, params.n_head) + (key % PAGE_SIZE) * packs;
    var sum = vec4<f32>(0.0);
    for (var pack = 0u; pack < packs; pack++) {
        let value = kv_load(slab, k + pack);
        sum += value[0] * qkv[query + 2u * pack] + value[1] * qkv[query + 2u * pack + 1u];
    }
    scores[head * params.score_keys + key] = dot(sum, vec4<f32>(params.scale));
}
