// sums[c] = (sum of the weights of chunk c's survivors above the cut's key, tokens at it, 0).
//
// A workgroup computes one chunk. Ragged edge: guarded.

// [n]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [n]
@group(0) @binding(3) var<storage, read> weights: array<vec2<u32>>;
// [1]
@group(0) @binding(4) var<storage, read> cut: array<vec4<u32>>;
// [n_chunks]
@group(0) @binding(5) var<storage, read_write> sums: array<vec4<u32>>;

var<workgroup> low: atomic<u32>;
var<workgroup> high: atomic<u32>;
var<workgroup> n_ties: atomic<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (params.greedy != 0u) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&low, 0u);
        atomicStore(&high, 0u);
        atomicStore(&n_ties, 0u);
    }
    workgroupBarrier();
    let cut_key = cut[0].x;
    let end = min((group.x + 1u) * CHUNK, shape.n);
    var sum = vec2<u32>(0u);
    var ties = 0u;
    for (var i = group.x * CHUNK + lane; i < end; i += WORKGROUP_SIZE) {
        let weight = weights[i];
        let key = order_key(logits[i]);
        if (!wide_less(weight, params.min_weight)) {
            if (key > cut_key) {
                sum = wide_add(sum, weight);
            } else if (key == cut_key) {
                ties += 1u;
            }
        }
    }
    let before = atomicAdd(&low, sum.x);
    atomicAdd(&high, sum.y + select(0u, 1u, before + sum.x < before));
    atomicAdd(&n_ties, ties);
    workgroupBarrier();
    if (lane == 0u) {
        sums[group.x] = vec4<u32>(atomicLoad(&low), atomicLoad(&high), atomicLoad(&n_ties), 0u);
    }
}
