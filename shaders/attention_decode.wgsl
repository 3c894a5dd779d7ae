// partial[row, head, split] = (acc, max, sum) of online softmax over the positions of one split
//
// Decode attention: each row attends to the cached positions of its own sequence that its
// window leaves visible. The positions are split over workgroups, and attention_reduce
// merges the splits. If there is a single split, this kernel writes `out` directly.
// (split-KV decode: Dao, Haziza, Massa and Sizov 2023, "Flash-Decoding")
//
// One workgroup computes one split of up to SPLIT_KEYS positions, for one KV head and
// HEADS of the query heads that share it. k and v are therefore read once for all of
// these heads. For the scores, each thread processes one key. For the weighted values,
// each thread processes one Pack of the head and a share of the keys.
// Ragged edge: keys that do not exist or are not visible are masked. Heads beyond the
// group repeat its last head and are not stored.
//
// Fragments in common/: step, pack_f16 | pack_f32, load_plain, rows_batch, softmax,
// kv_layout, kv_by_8, kv_read_1 | kv_read_4, window, soft_cap, attention,
// reduce_workgroup | reduce_subgroup.

// The scores of a key are one vec4, and so are its weights.
const_assert HEADS >= 1u && HEADS <= 4u;
const PACKS: u32 = HEAD_DIM / 8u;
// Packs that the workgroup processes at a time, and threads per pack.
const PACKS_AT_ONCE: u32 = min(PACKS, WORKGROUP_SIZE);
const SHARES: u32 = WORKGROUP_SIZE / PACKS_AT_ONCE;
const ROUNDS: u32 = (PACKS + PACKS_AT_ONCE - 1u) / PACKS_AT_ONCE;

// [n_rows, n_head, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_rows, n_head, max_splits, HEAD_DIM + 4]: acc, then (max, sum, 0, 0)
@group(0) @binding(5) var<storage, read_write> partial: array<vec4<f32>>;

// [HEADS, PACKS]
var<workgroup> query: array<mat2x4<f32>, HEADS * PACKS>;
// [WORKGROUP_SIZE]: a key's weights for all heads
var<workgroup> weights: array<vec4<f32>, WORKGROUP_SIZE>;
var<workgroup> shares: array<mat2x4<f32>, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_decode(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let parts = (params.group + HEADS - 1u) / HEADS;
    let kv_head = group.x / parts;
    let in_group = group.x % parts * HEADS;
    let first_head = kv_head * params.group + in_group;
    let last_head = kv_head * params.group + params.group - 1u;
    let split = group.y;
    let row = group.z;
    let kv_len = batch.rows[row].kv_len;
    let seen = first_seen(kv_len, params.window);
    let all_keys = first_split_key(kv_len, params.window);
    let length = split_length(kv_len - all_keys, SPLIT_KEYS);
    let first = all_keys + split * length;
    if (first >= kv_len) {
        return;
    }
    let end = min(first + length, kv_len);
    let n_splits = (kv_len - all_keys + length - 1u) / length;

    for (var i = lane.index; i < HEADS * PACKS; i += WORKGROUP_SIZE) {
        let head = min(first_head + i / PACKS, last_head);
        let source = row * params.qkv_stride4 + head * (HEAD_DIM / 4u) + 2u * (i % PACKS);
        query[i] = mat2x4<f32>(load4(qkv[source]), load4(qkv[source + 1u])) * params.scale;
    }
    workgroupBarrier();

    let own_pack = lane.index % PACKS_AT_ONCE;
    let own_share = lane.index / PACKS_AT_ONCE;
    var acc: array<mat2x4<f32>, ROUNDS * HEADS>;
    for (var i = 0u; i < ROUNDS * HEADS; i++) {
        acc[i] = mat2x4<f32>();
    }
    var running_max = vec4<f32>(MASKED);
    var running_sum = vec4<f32>(0.0);

    for (var tile = first; tile < end; tile += WORKGROUP_SIZE) {
        let key = tile + lane.index;
        let visible = key >= seen && key < end;
        var score = vec4<f32>(MASKED);
        if (visible) {
            let entry = page_table[row_page(row, key / PAGE_SIZE)];
            let slab = kv_slab(entry);
            let k = kv_run(entry, 0u, kv_head, params.n_kv_head) + (key % PAGE_SIZE) * PACKS;
            var sums: array<vec4<f32>, HEADS>;
            for (var h = 0u; h < HEADS; h++) {
                sums[h] = vec4<f32>(0.0);
            }
            for (var pack = 0u; pack < params.packs; pack++) {
                let value = kv_load(slab, k + pack);
                for (var h = 0u; h < HEADS; h++) {
                    let q = query[h * PACKS + pack];
                    sums[h] += value[0] * q[0] + value[1] * q[1];
                }
            }
            for (var h = 0u; h < HEADS; h++) {
                score[h] = dot(sums[h], vec4<f32>(1.0));
            }
            score = capped(score);
        }
        let new_max = max(running_max, workgroup_max(score, lane));
        let weight = select(vec4<f32>(0.0), exp4_nonpositive(score - new_max), visible);
        weights[lane.index] = weight;
        let correction = exp4_nonpositive(running_max - new_max);
        running_max = new_max;
        // The reduction's barriers also publish `weights`.
        running_sum = running_sum * correction + workgroup_sum(weight, lane);

        // Values that are not visible may be anything, so they are not loaded.
        let first_key = max(tile, seen) - tile;
        let n_keys = min(WORKGROUP_SIZE, end - tile);
        for (var round = 0u; round < ROUNDS; round++) {
            let pack = round * PACKS_AT_ONCE + own_pack;
            for (var h = 0u; h < HEADS; h++) {
                acc[round * HEADS + h] = acc[round * HEADS + h] * correction[h];
            }
            if (pack < PACKS && own_share < SHARES) {
                for (var i = first_key + own_share; i < n_keys; i += SHARES) {
                    let entry = page_table[row_page(row, (tile + i) / PAGE_SIZE)];
                    let run = kv_run(entry, 1u, kv_head, params.n_kv_head);
                    let v = kv_load(kv_slab(entry), run + ((tile + i) % PAGE_SIZE) * PACKS + pack);
                    for (var h = 0u; h < HEADS; h++) {
                        acc[round * HEADS + h] += v * weights[i][h];
                    }
                }
            }
        }
        // The next tile overwrites `weights`.
        workgroupBarrier();
    }

    for (var i = 0u; i < ROUNDS * HEADS; i++) {
        shares[lane.index] = acc[i];
        workgroupBarrier();
        let pack = i / HEADS * PACKS_AT_ONCE + own_pack;
        let head = first_head + i % HEADS;
        if (own_share == 0u && pack < PACKS && head <= last_head) {
            var total = shares[own_pack];
            for (var share = 1u; share < SHARES; share++) {
                total += shares[share * PACKS_AT_ONCE + own_pack];
            }
            if (n_splits == 1u) {
                let column = row * params.out_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
                out[column] = total[0] / running_sum[i % HEADS];
                out[column + 1u] = total[1] / running_sum[i % HEADS];
            } else {
                let to = ((row * params.n_head + head) * params.max_splits + split) * (HEAD_DIM / 4u + 1u);
                partial[to + 2u * pack] = total[0];
                partial[to + 2u * pack + 1u] = total[1];
            }
        }
        workgroupBarrier();
    }
    let head = first_head + lane.index;
    if (lane.index < HEADS && head <= last_head && n_splits != 1u) {
        let to = ((row * params.n_head + head) * params.max_splits + split) * (HEAD_DIM / 4u + 1u);
        let state = vec4<f32>(running_max[lane.index], running_sum[lane.index], 0.0, 0.0);
        partial[to + HEAD_DIM / 4u] = state;
    }
}
