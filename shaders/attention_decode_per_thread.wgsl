// out[row, head, :] = sum over j < kv_len of softmax_j(scale * q[row, head] . k[j, head]) * v[j, head]
//
// Decode attention for CPU adapters, each row over its own sequence: one
// workgroup computes one head of one row in three phases with a barrier between
// them: scores, a thread a position; weights, relative to the largest score; the
// weighted sum of the values, a thread a Pack of the head. Scores pass through a
// buffer, so that any context fits. Ragged edge: guarded.

// [n_rows, n_head, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// [n_rows, n_head, score_keys]
@group(0) @binding(5) var<storage, read_write> scores: array<f32>;

var<workgroup> maxima: array<f32, WORKGROUP_SIZE>;
var<workgroup> sums: array<f32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_decode_per_thread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.x;
    let row = group.y;
    let kv_len = batch.rows[row].kv_len;
    let query = row * params.qkv_stride4 + head * (HEAD_DIM / 4u);
    let packs = params.packs;
    let own_scores = (row * params.n_head + head) * params.score_keys;

    var largest = MASKED;
    for (var key = lane; key < kv_len; key += WORKGROUP_SIZE) {
        let entry = page_table[row_page(row, key / PAGE_SIZE)];
        let slab = kv_slab(entry);
        let k = kv_run(entry, 0u, head, params.n_head) + (key % PAGE_SIZE) * packs;
        var sum = vec4<f32>(0.0);
        for (var pack = 0u; pack < packs; pack++) {
            let value = kv_load(slab, k + pack);
            sum += value[0] * load4(qkv[query + 2u * pack]) + value[1] * load4(qkv[query + 2u * pack + 1u]);
        }
        let score = dot(sum, vec4<f32>(params.scale));
        scores[own_scores + key] = score;
        largest = max(largest, score);
    }
    maxima[lane] = largest;
    workgroupBarrier();
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        largest = max(largest, maxima[i]);
    }
    var weights = 0.0;
    for (var key = lane; key < kv_len; key += WORKGROUP_SIZE) {
        let weight = exp_nonpositive(scores[own_scores + key] - largest);
        scores[own_scores + key] = weight;
        weights += weight;
    }
    sums[lane] = weights;
    // The values read the weights that other threads wrote.
    storageBarrier();
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        total += sums[i];
    }
    for (var pack = lane; pack < packs; pack += WORKGROUP_SIZE) {
        var acc = mat2x4<f32>();
        for (var key = 0u; key < kv_len; key++) {
            let entry = page_table[row_page(row, key / PAGE_SIZE)];
            let v = kv_run(entry, 1u, head, params.n_head) + (key % PAGE_SIZE) * packs + pack;
            acc += kv_load(kv_slab(entry), v) * scores[own_scores + key];
        }
        let to = row * params.out_stride4 + head * (HEAD_DIM / 4u) + 2u * pack;
        out[to] = acc[0] / total;
        out[to + 1u] = acc[1] / total;
    }
}
