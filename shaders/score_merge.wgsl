// logprobs[first_row + row] =
//    logits[row, target] - max - ln(sum over i of exp(logits[row, i] - max)),
// or minus infinity if the target's logit is;
// details[first_row + row] = (the same, number of tokens before the target, id of the largest
//    logit, its log-probability)
//
// All floats are NaN if a logit is NaN or plus infinity, or if all are minus infinity.
//
// One thread merges the partial results of one row. Terms are summed in blocks of BLOCK,
// then the block sums are added, which keeps errors small.
// Ragged edge: guarded.
//
// Fragments in common/: step, order_key, score.

const BLOCK: u32 = 8u;

// [n_rows, n_partials]
@group(0) @binding(4) var<storage, read> partial: array<vec4<u32>>;
// [first_row + n_rows]: bits
@group(0) @binding(5) var<storage, read_write> logprobs: array<u32>;
// [first_row + n_rows]
@group(0) @binding(6) var<storage, read_write> details: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn score_merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * WORKGROUP_SIZE + lane;
    if (row >= step.n_rows) {
        return;
    }
    let first = row * params.n_partials;
    let end = first + params.n_partials;
    var key = 0u;
    var id = 0xffffffffu;
    var rank = 0u;
    for (var i = first; i < end; i++) {
        let part = partial[i];
        if (part.x > key || (part.x == key && part.z < id)) {
            key = part.x;
            id = part.z;
        }
        rank += part.w;
    }
    let half_max = half_logit(key);
    var sum = 0.0;
    for (var block = first; block < end; block += BLOCK) {
        var part_sum = 0.0;
        for (var i = block; i < min(block + BLOCK, end); i++) {
            let part = partial[i];
            let weight = exp(2.0 * max(half_logit(part.x) - half_max, -50.0));
            part_sum += select(0.0, bitcast<f32>(part.y) * weight, part.x > KEY_MINUS_INFINITY);
        }
        sum += part_sum;
    }
    // The largest logit already contributes 1.
    let ln_sum = log(max(sum, 1.0));
    let wanted = score_target(row);
    let half_below = half_logit(wanted.key) - half_max;
    // Half of the largest f32: beyond it, the doubled distance would overflow.
    let vanishes = wanted.key <= KEY_MINUS_INFINITY || half_below < -1.7014e38;
    let fault = key <= KEY_MINUS_INFINITY || key >= KEY_PLUS_INFINITY;
    let logprob = select(bitcast<u32>(2.0 * half_below - ln_sum), 0xff800000u, vanishes);
    let own = select(logprob, 0x7fc00000u, fault);
    let best = select(bitcast<u32>(0.0 - ln_sum), 0x7fc00000u, fault);
    logprobs[step.first_row + row] = own;
    details[step.first_row + row] = vec4<u32>(own, rank, id, best);
}
