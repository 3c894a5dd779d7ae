// partial[row, chunk] = (largest key, bits of the sum of exp(logit - max), id of the
// largest, number of tokens before the target) over CHUNK4 vec4 of logits[row, 0..n].
// score_merge computes scores from these.
//
// One workgroup computes one chunk of one row.
// Ragged edge: guarded.
//
// Fragments in common/: step, order_key, score, reduce_workgroup | reduce_subgroup.

// [n_rows, n_partials]
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<u32>>;

var<workgroup> best_key: atomic<u32>;
var<workgroup> best_id: atomic<u32>;
var<workgroup> n_above: atomic<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn score(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = group.y;
    let first = row * params.stride4;
    let begin = group.x * CHUNK4 + lane.index;
    let end = min((group.x + 1u) * CHUNK4, params.stride4);
    if (lane.index == 0u) {
        atomicStore(&best_key, 0u);
        atomicStore(&best_id, 0xffffffffu);
        atomicStore(&n_above, 0u);
    }
    workgroupBarrier();
    let wanted = score_target(row);
    var best = ScoreBest(vec4<u32>(0u), vec4<u32>(0xffffffffu));
    var above = vec4<u32>(0u);
    for (var i = begin; i < end; i += WORKGROUP_SIZE) {
        let ids = score_ids(i);
        let keys = score_keys(logits[first + i], ids);
        best = score_better(best, keys, ids);
        above += score_above(ids, keys, wanted);
    }
    let own = score_best(best);
    atomicMax(&best_key, own.x);
    atomicAdd(&n_above, above.x + above.y + above.z + above.w);
    workgroupBarrier();
    let key = atomicLoad(&best_key);
    if (own.x == key) {
        atomicMin(&best_id, own.y);
    }
    let half_max = half_logit(key);
    var sum = vec4<f32>(0.0);
    for (var i = begin; i < end; i += WORKGROUP_SIZE) {
        let bits = logits[first + i];
        sum += score_weights(bits, score_keys(bits, score_ids(i)), half_max);
    }
    // The reduction's barriers also publish `best_id`.
    let total = dot(workgroup_sum(sum, lane), vec4<f32>(1.0));
    if (lane.index == 0u) {
        partial[row * params.n_partials + group.x] =
            vec4<u32>(key, bitcast<u32>(total), atomicLoad(&best_id), atomicLoad(&n_above));
    }
}
