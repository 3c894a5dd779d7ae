// head = rotated(head / sqrt(mean of head^2 + epsilon) * weight), for every q and k head
// of every row, in place (query and key normalization: Dehghani et al. 2023, "Scaling
// Vision Transformers to 22 Billion Parameters", section 2; with the root mean square and
// rotary position embedding as in Qwen 3 and Gemma 3)
//
// One workgroup computes one head of one row.
// Ragged edge: the padding of a head is zero and adds nothing to the sum, and the weight
// is zero there. Pairs in the padding are not rotated.
//
// Fragments in common/: step, rows_chunk | rows_batch | none, rope | rope_none.
struct QkNormParams {
    // Query heads.
    n_head: u32,
    // Query and key heads: the first heads of a row.
    n_normed: u32,
    // Row length divided by 4.
    stride4: u32,
    // Elements of a head without padding.
    n: u32,
    epsilon: f32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: QkNormParams;
@group(0) @binding(1) var<uniform> step: Step;
// [2 (q, k), HEAD_DIM]
@group(0) @binding(2) var<storage, read> scale: array<vec4<f32>>;
// [n_rows, 4 * stride4]: q heads, k heads, v heads, each of HEAD_DIM
@group(0) @binding(3) var<storage, read_write> qkv: array<vec4<f32>>;

var<workgroup> shares: array<f32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn qk_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let row = index / params.n_normed;
    if (row >= step.n_rows) {
        return;
    }
    let head = index % params.n_normed;
    let width = HEAD_DIM / 4u;
    let first = row * params.stride4 + head * width;

    var squares = vec4<f32>(0.0);
    for (var i = lane; i < width; i += WORKGROUP_SIZE) {
        let value = qkv[first + i];
        squares = fma(value, value, squares);
    }
    shares[lane] = dot(squares, vec4<f32>(1.0));
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        total += shares[i];
    }
    let factor = inverseSqrt(total / f32(params.n) + params.epsilon);

    let weight = select(width, 0u, head < params.n_head);
    for (var i = lane; i < width; i += WORKGROUP_SIZE) {
        qkv[first + i] = turned(row, i, width, qkv[first + i] * factor * scale[weight + i]);
    }
}
