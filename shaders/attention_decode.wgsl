// Attention of single rows, each over the cached positions of its own sequence,
// split over workgroups: partial[row, head, split] = (acc, max, sum) of online
// softmax over its positions; attention_reduce merges them. With one split `out`
// is written at once.
// (split-KV decode: Dao, Haziza, Massa and Sizov 2023, "Flash-Decoding")
//
// One workgroup computes one split of SPLIT_KEYS positions of one head: a
// thread a key for the scores, then a thread a Pack of the head (and a share of
// the keys) for the weighted values. Ragged edge: missing keys are masked.

const PACKS: u32 = HEAD_DIM / 8u;
// Packs that the workgroup treats at a time, and threads for each of them.
const PACKS_AT_ONCE: u32 = min(PACKS, WORKGROUP_SIZE);
const SHARES: u32 = WORKGROUP_SIZE / PACKS_AT_ONCE;
const ROUNDS: u32 = (PACKS + PACKS_AT_ONCE - 1u) / PACKS_AT_ONCE;

// [n_rows, n_head, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_rows, n_head, max_splits, HEAD_DIM + 4]: acc, then (max, sum, 0, 0)
@group(0) @binding(5) var<storage, read_write> partial: array<vec4<f32>>;

var<workgroup> query: array<mat2x4<f32>, PACKS>;
var<workgroup> weights: array<f32, WORKGROUP_SIZE>;
var<workgroup> shares: array<mat2x4<f32>, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_decode(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let head = group.x;
    let split = group.y;
    let row = group.z;
    let kv_len = batch.rows[row].kv_len;
    let first = split * SPLIT_KEYS;
    if (first >= kv_len) {
        return;
    }
    let end = min(first + SPLIT_KEYS, kv_len);
    let n_splits = (kv_len + SPLIT_KEYS - 1u) / SPLIT_KEYS;

    for (var pack = lane.index; pack < PACKS; pack += WORKGROUP_SIZE) {
        let source = row * params.qkv_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
        query[pack] = mat2x4<f32>(load4(qkv[source]), load4(qkv[source + 1u])) * params.scale;
    }
    workgroupBarrier();

    let own_pack = lane.index % PACKS_AT_ONCE;
    let own_share = lane.index / PACKS_AT_ONCE;
    var acc: array<mat2x4<f32>, ROUNDS>;
    for (var round = 0u; round < ROUNDS; round++) {
        acc[round] = mat2x4<f32>();
    }
    var running_max = MASKED;
    var running_sum = 0.0;

    for (var tile = first; tile < end; tile += WORKGROUP_SIZE) {
        let key = tile + lane.index;
        var score = MASKED;
        if (key < end) {
            let entry = page_table[row_page(row, key / PAGE_SIZE)];
            let slab = kv_slab(entry);
            let k = kv_run(entry, 0u, head, params.n_head) + (key % PAGE_SIZE) * PACKS;
            var sum = vec4<f32>(0.0);
            for (var pack = 0u; pack < params.packs; pack++) {
                let value = kv_load(slab, k + pack);
                sum += value[0] * query[pack][0] + value[1] * query[pack][1];
            }
            score = dot(sum, vec4<f32>(1.0));
        }
        let new_max = max(running_max, workgroup_max(score, lane));
        let weight = select(0.0, exp_nonpositive(score - new_max), key < end);
        weights[lane.index] = weight;
        let correction = exp_nonpositive(running_max - new_max);
        running_max = new_max;
        // The reduction's barriers also publish `weights`.
        running_sum = running_sum * correction + workgroup_sum(vec4<f32>(weight), lane).x;

        let n_keys = min(WORKGROUP_SIZE, end - tile);
        for (var round = 0u; round < ROUNDS; round++) {
            let pack = round * PACKS_AT_ONCE + own_pack;
            var sum = acc[round] * correction;
            if (pack < PACKS && own_share < SHARES) {
                for (var i = own_share; i < n_keys; i += SHARES) {
                    let entry = page_table[row_page(row, (tile + i) / PAGE_SIZE)];
                    let v = kv_run(entry, 1u, head, params.n_head) + ((tile + i) % PAGE_SIZE) * PACKS;
                    sum += kv_load(kv_slab(entry), v + pack) * weights[i];
                }
            }
            acc[round] = sum;
        }
        // The next tile writes `weights` again.
        workgroupBarrier();
    }

    let to = ((row * params.n_head + head) * params.max_splits + split) * (HEAD_DIM / 4u + 1u);
    for (var round = 0u; round < ROUNDS; round++) {
        shares[lane.index] = acc[round];
        workgroupBarrier();
        let pack = round * PACKS_AT_ONCE + own_pack;
        if (own_share == 0u && pack < PACKS) {
            var total = shares[own_pack];
            for (var share = 1u; share < SHARES; share++) {
                total += shares[share * PACKS_AT_ONCE + own_pack];
            }
            if (n_splits == 1u) {
                let column = row * params.out_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
                out[column] = total[0] / running_sum;
                out[column + 1u] = total[1] / running_sum;
            } else {
                partial[to + 2u * pack] = total[0];
                partial[to + 2u * pack + 1u] = total[1];
            }
        }
        workgroupBarrier();
    }
    if (lane.index == 0u && n_splits != 1u) {
        partial[to + HEAD_DIM / 4u] = vec4<f32>(running_max, running_sum, 0.0, 0.0);
    }
}
