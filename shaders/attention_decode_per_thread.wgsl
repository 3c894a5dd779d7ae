// partial[row, head, split] = (acc, max, sum) of softmax over the positions of one split
//
// Decode attention for software adapters: each row attends to the cached positions of its
// own sequence that its window leaves visible. The positions are split over workgroups,
// and attention_reduce merges the splits. If there is a single split, this kernel writes
// `out` directly.
//
// One workgroup computes one split of up to SPLIT_KEYS positions, for one KV head and
// HEADS of the query heads that share it. k and v are therefore read once for all of
// these heads. There are three phases with a barrier between them: scores, with four
// consecutive positions per thread; weights, relative to the largest score; the weighted
// sum of the values, with one Pack of the head per thread. On software adapters every
// load in a loop is a gather, even if lanes load the same address. A thread therefore
// processes four positions for each load of q and of weights.
// Ragged edge: positions that do not exist or are not visible are masked. Heads beyond
// the group repeat its last head and are not stored.
//
// Fragments in common/: step, pack_f16 | pack_f32 | pack_f16_wide | pack_f32_wide,
// load_plain | load_wide, rows_batch, softmax, kv_layout, kv_by_8, kv_read_1 | kv_read_4,
// window, soft_cap, attention, dot4.

// Each block of four positions is within one page.
const_assert PAGE_SIZE % 4u == 0u && SPLIT_KEYS % PAGE_SIZE == 0u && HEADS * SPLIT_KEYS <= SCORES;

// [n_rows, n_head, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_rows, n_head, max_splits, HEAD_DIM + 4]: acc, then (max, sum, 0, 0)
@group(0) @binding(5) var<storage, read_write> partial: array<vec4<f32>>;

// [HEADS, SPLIT_KEYS / 4]: scores, then weights
var<workgroup> weights: array<Load4, SCORES / 4u>;
// [HEADS, WORKGROUP_SIZE]
var<workgroup> maxima: array<f32, HEADS * WORKGROUP_SIZE>;
var<workgroup> sums: array<f32, HEADS * WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_decode_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let parts = (params.group + HEADS - 1u) / HEADS;
    let kv_head = group.x / parts;
    let first_head = kv_head * params.group + group.x % parts * HEADS;
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
    let packs = params.packs;
    let offsets = vec4<u32>(0u, 1u, 2u, 3u);

    var largest: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        largest[h] = MASKED;
    }
    for (var key = first + 4u * lane; key < end; key += 4u * WORKGROUP_SIZE) {
        let entry = page_table[row_page(row, key / PAGE_SIZE)];
        let slab = kv_slab(entry);
        let k = kv_run(entry, 0u, kv_head, params.n_kv_head) + (key % PAGE_SIZE) * packs;
        var dots: array<vec4<f32>, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            dots[h] = vec4<f32>(0.0);
        }
        for (var pack = 0u; pack < packs; pack++) {
            let k0 = kv_load(slab, k + pack);
            let k1 = kv_load(slab, k + packs + pack);
            let k2 = kv_load(slab, k + 2u * packs + pack);
            let k3 = kv_load(slab, k + 3u * packs + pack);
            for (var h = 0u; h < HEADS; h++) {
                let head = min(first_head + h, last_head);
                let query = row * params.qkv_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
                dots[h] = add_dots(k0[0], k1[0], k2[0], k3[0], load4(qkv[query]), dots[h]);
                dots[h] = add_dots(k0[1], k1[1], k2[1], k3[1], load4(qkv[query + 1u]), dots[h]);
            }
        }
        let keys = key + offsets;
        let visible = (keys >= vec4<u32>(seen)) & (keys < vec4<u32>(end));
        for (var h = 0u; h < HEADS; h++) {
            let score = capped(dots[h] * params.scale);
            let masked = select(vec4<f32>(MASKED), score, visible);
            weights[h * (SPLIT_KEYS / 4u) + (key - first) / 4u] = store4(masked);
            largest[h] = max(largest[h], max(max(masked.x, masked.y), max(masked.z, masked.w)));
        }
    }
    for (var h = 0u; h < HEADS; h++) {
        maxima[h * WORKGROUP_SIZE + lane] = largest[h];
    }
    workgroupBarrier();
    for (var h = 0u; h < HEADS; h++) {
        for (var i = 0u; i < WORKGROUP_SIZE; i++) {
            largest[h] = max(largest[h], maxima[h * WORKGROUP_SIZE + i]);
        }
        var sum = 0.0;
        for (var key = first + 4u * lane; key < end; key += 4u * WORKGROUP_SIZE) {
            let at = h * (SPLIT_KEYS / 4u) + (key - first) / 4u;
            let keys = key + offsets;
            let visible = (keys >= vec4<u32>(seen)) & (keys < vec4<u32>(end));
            let weight = select(vec4<f32>(0.0), exp4_nonpositive(load4(weights[at]) - largest[h]), visible);
            weights[at] = store4(weight);
            sum += dot(weight, vec4<f32>(1.0));
        }
        sums[h * WORKGROUP_SIZE + lane] = sum;
    }
    // The values are multiplied by weights that other threads wrote.
    workgroupBarrier();
    var total: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        total[h] = 0.0;
        for (var i = 0u; i < WORKGROUP_SIZE; i++) {
            total[h] += sums[h * WORKGROUP_SIZE + i];
        }
    }
    for (var pack = lane; pack < packs; pack += WORKGROUP_SIZE) {
        var low: array<vec4<f32>, HEADS>;
        var high: array<vec4<f32>, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            low[h] = vec4<f32>(0.0);
            high[h] = vec4<f32>(0.0);
        }
        for (var page = first; page < end; page += PAGE_SIZE) {
            let entry = page_table[row_page(row, page / PAGE_SIZE)];
            let slab = kv_slab(entry);
            let run = kv_run(entry, 1u, kv_head, params.n_kv_head) + pack;
            for (var key = max(page, seen / 4u * 4u); key < min(page + PAGE_SIZE, end); key += 4u) {
                // A position that is not visible may contain anything. A visible
                // neighbour is loaded in its place, with weight 0.
                let at = clamp(key + offsets, vec4<u32>(seen), vec4<u32>(end - 1u)) % PAGE_SIZE * packs + run;
                let v0 = kv_load(slab, at.x);
                let v1 = kv_load(slab, at.y);
                let v2 = kv_load(slab, at.z);
                let v3 = kv_load(slab, at.w);
                for (var h = 0u; h < HEADS; h++) {
                    let weight = load4(weights[h * (SPLIT_KEYS / 4u) + (key - first) / 4u]);
                    low[h] = add_scaled(v0[0], v1[0], v2[0], v3[0], weight, low[h]);
                    high[h] = add_scaled(v0[1], v1[1], v2[1], v3[1], weight, high[h]);
                }
            }
        }
        for (var h = 0u; h < HEADS; h++) {
            let head = first_head + h;
            if (head > last_head) {
                continue;
            }
            if (n_splits == 1u) {
                let to = row * params.out_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
                out[to] = low[h] / total[h];
                out[to + 1u] = high[h] / total[h];
            } else {
                let to = ((row * params.n_head + head) * params.max_splits + split) * (HEAD_DIM / 4u + 1u);
                partial[to + 2u * pack] = low[h];
                partial[to + 2u * pack + 1u] = high[h];
                if (pack == 0u) {
                    partial[to + HEAD_DIM / 4u] = vec4<f32>(largest[h], total[h], 0.0, 0.0);
                }
            }
        }
    }
}
