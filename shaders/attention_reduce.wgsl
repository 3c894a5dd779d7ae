// out[row, head, :] = sum over s of e^(max_s - max) * acc_s / sum over s of e^(max_s - max) * sum_s
// for the splits s
//
// One thread computes four consecutive elements of one head of one row from the partial
// results of attention_decode.
// Ragged edge: guarded.
//
// Fragments in common/: rows_batch, window, softmax.
struct ReduceParams {
    n_head: u32,
    // Splits per head for which `partial` has space.
    max_splits: u32,
    // Maximum positions of a split.
    split_keys: u32,
    // Number of positions that a row sees, including its own; the largest u32 means all.
    window: u32,
}

@group(0) @binding(0) var<uniform> params: ReduceParams;
// [n_rows, n_head, max_splits, HEAD_DIM + 4]: acc, then (max, sum, 0, 0)
@group(0) @binding(2) var<storage, read> partial: array<vec4<f32>>;
// [n_rows, n_head, HEAD_DIM]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_reduce(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x * WORKGROUP_SIZE + lane;
    let row = group.y;
    let head = index / (HEAD_DIM / 4u);
    let element4 = index % (HEAD_DIM / 4u);
    let kv_len = batch.rows[row].kv_len;
    let n_keys = kv_len - first_split_key(kv_len, params.window);
    let length = split_length(n_keys, params.split_keys);
    let n_splits = (n_keys + length - 1u) / length;
    // A single split has written `out` already.
    if (n_splits == 1u) {
        return;
    }
    if (head >= params.n_head) {
        return;
    }
    let stride = HEAD_DIM / 4u + 1u;
    let first = (row * params.n_head + head) * params.max_splits * stride;
    var all_max = MASKED;
    for (var split = 0u; split < n_splits; split++) {
        all_max = max(all_max, partial[first + split * stride + HEAD_DIM / 4u].x);
    }
    var acc = vec4<f32>(0.0);
    var sum = 0.0;
    for (var split = 0u; split < n_splits; split++) {
        let at = first + split * stride;
        let state = partial[at + HEAD_DIM / 4u];
        let factor = exp_nonpositive(state.x - all_max);
        acc += partial[at + element4] * factor;
        sum += state.y * factor;
    }
    out[row * params.n_head * (HEAD_DIM / 4u) + index] = acc / sum;
}
