// Attention of one row over the cached positions, split over threads:
// partial[head, split] = (acc, max, sum) of online softmax over its positions;
// attention_reduce merges them.
//
// One thread computes one split of one head, without workgroup memory: for CPU
// adapters. Split s takes positions s, s + max_splits, ... Ragged edge: a split
// without positions writes a sum of 0.

const PACKS: u32 = HEAD_DIM / 8u;

// [n_head, max_splits, HEAD_DIM + 4]: acc, then (max, sum, 0, 0)
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_decode_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.x;
    let split = group.y * WORKGROUP_SIZE + lane;
    if (split >= params.max_splits) {
        return;
    }
    let query = head * (HEAD_DIM / 4u);
    var acc: array<mat2x4<f32>, PACKS>;
    for (var pack = 0u; pack < PACKS; pack++) {
        acc[pack] = mat2x4<f32>();
    }
    var running_max = MASKED;
    var running_sum = 0.0;

    for (var key = split; key < step.kv_len; key += params.max_splits) {
        let entry = page_table[key / PAGE_SIZE];
        let slab = kv_slab(entry);
        let within = (key % PAGE_SIZE) * PACKS;
        let k = kv_run(entry, 0u, head, params.n_head) + within;
        let v = kv_run(entry, 1u, head, params.n_head) + within;
        var sum = vec4<f32>(0.0);
        for (var pack = 0u; pack < PACKS; pack++) {
            let value = kv_load(slab, k + pack);
            sum += value[0] * qkv[query + 2u * pack] + value[1] * qkv[query + 2u * pack + 1u];
        }
        let score = dot(sum, vec4<f32>(params.scale));
        let new_max = max(running_max, score);
        let correction = exp_nonpositive(running_max - new_max);
        let weight = exp_nonpositive(score - new_max);
        running_max = new_max;
        running_sum = running_sum * correction + weight;
        for (var pack = 0u; pack < PACKS; pack++) {
            acc[pack] = acc[pack] * correction + kv_load(slab, v + pack) * weight;
        }
    }

    let to = (head * params.max_splits + split) * (HEAD_DIM / 4u + 1u);
    for (var pack = 0u; pack < PACKS; pack++) {
        partial[to + 2u * pack] = acc[pack][0];
        partial[to + 2u * pack + 1u] = acc[pack][1];
    }
    partial[to + HEAD_DIM / 4u] = vec4<f32>(running_max, running_sum, 0.0, 0.0);
}
