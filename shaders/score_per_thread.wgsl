// partial[row, i] = (largest key, bits of the sum of exp(logit - max), id of the largest,
// number of tokens before the target) over a share of logits[row, 0..n]. score_merge
// computes scores from these.
//
// This kernel is for software adapters. The threads of a workgroup share a chunk of
// CHUNK4 vec4 of one row, without a barrier. Each thread reads every WORKGROUP_SIZE-th
// vec4. Terms are summed in blocks of BLOCK, then the block sums are added, which keeps
// errors small.
// Ragged edge: guarded.
//
// Fragments in common/: step, order_key, score.

const BLOCK: u32 = 16u;

// [n_rows, n_partials]
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn score_per_thread(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let first = row * params.stride4;
    let begin = group.x * CHUNK4 + lane;
    let end = min((group.x + 1u) * CHUNK4, params.stride4);
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
    let half_max = half_logit(own.x);
    var sum = vec4<f32>(0.0);
    for (var block = begin; block < end; block += BLOCK * WORKGROUP_SIZE) {
        var part = vec4<f32>(0.0);
        for (var i = block; i < min(block + BLOCK * WORKGROUP_SIZE, end); i += WORKGROUP_SIZE) {
            let bits = logits[first + i];
            part += score_weights(bits, score_keys(bits, score_ids(i)), half_max);
        }
        sum += part;
    }
    partial[row * params.n_partials + group.x * WORKGROUP_SIZE + lane] = vec4<u32>(
        own.x,
        bitcast<u32>(dot(sum, vec4<f32>(1.0))),
        own.y,
        above.x + above.y + above.z + above.w,
    );
}
