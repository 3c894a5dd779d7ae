// sums[c] = (sum of the weights of chunk c's survivors above the cut's key, number of
// tokens at that key)
//
// One workgroup computes one chunk.
// Ragged edge: guarded.
//
// Fragments in common/: sample, order_key, wide, survivors.

// [n_chunks]
@group(0) @binding(5) var<storage, read_write> sums: array<vec4<u32>>;

var<workgroup> low: atomic<u32>;
var<workgroup> high: atomic<u32>;
var<workgroup> ties: atomic<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (params.greedy != 0u) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&low, 0u);
        atomicStore(&high, 0u);
        atomicStore(&ties, 0u);
    }
    workgroupBarrier();
    let end = min((group.x + 1u) * CHUNK, shape.n);
    var sum = vec2<u32>(0u);
    var n_ties = 0u;
    for (var id = group.x * CHUNK + lane; id < end; id += WORKGROUP_SIZE) {
        let part = survivor(id);
        sum = wide_add(sum, part.xy);
        n_ties += part.z;
    }
    let before = atomicAdd(&low, sum.x);
    atomicAdd(&high, sum.y + select(0u, 1u, before + sum.x < before));
    atomicAdd(&ties, n_ties);
    workgroupBarrier();
    if (lane == 0u) {
        sums[group.x] = vec4<u32>(atomicLoad(&low), atomicLoad(&high), atomicLoad(&ties), 0u);
    }
}
