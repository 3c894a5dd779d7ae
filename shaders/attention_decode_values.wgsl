// out[head, :] = sum over j < kv_len of softmax_j(scores[head, :]) * v[j, head]
// (online softmax in f32: Milakov and Gimelshein 2018)
//
// The second half of decode attention for CPU adapters, behind
// attention_decode_scores. One thread computes eight neighbouring elements of
// one head, without a barrier. Ragged edge: guarded.

// [n_head, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_head, score_keys]
@group(0) @binding(5) var<storage, read> scores: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_decode_values(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let packs = params.packs;
    let index = group.x * WORKGROUP_SIZE + lane;
    let head = index / packs;
    let pack = index % packs;
    if (head >= params.n_head) {
        return;
    }
    var acc = mat2x4<f32>();
    var running_max = MASKED;
    var running_sum = 0.0;
    for (var key = 0u; key < step.kv_len; key++) {
        let score = scores[head * params.score_keys + key];
        let new_max = max(running_max, score);
        let correction = exp_nonpositive(running_max - new_max);
        let weight = exp_nonpositive(score - new_max);
        running_max = new_max;
        running_sum = running_sum * correction + weight;
        let entry = page_table[key / PAGE_SIZE];
        let v = kv_run(entry, 1u, head, params.n_head) + (key % PAGE_SIZE) * packs + pack;
        acc = acc * correction + kv_load(kv_slab(entry), v) * weight;
    }
    out[2u * index] = acc[0] / running_sum;
    out[2u * index + 1u] = acc[1] / running_sum;
}
