// weights[i] = 2^42 exp((logits[i] - max) / temperature); bins[b] = (number of weights in
// bin b, their sum)
//
// One workgroup computes one chunk. A 64-bit sum is two atomic words. Each addition
// detects a carry from the old value, so the total is exact in any order.
// Ragged edge: guarded.
//
// Fragments in common/: sample, order_key, wide, sample_weight.

// [n]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [n_chunks]
@group(0) @binding(3) var<storage, read> chunks: array<vec4<u32>>;
// [n_chunks * CHUNK]: 0 from n on
@group(0) @binding(4) var<storage, read_write> weights: array<vec2<u32>>;
// [N_BINS, 3]
@group(0) @binding(5) var<storage, read_write> bins: array<atomic<u32>>;

var<workgroup> best_key: atomic<u32>;
// This chunk's part of `bins`.
var<workgroup> counts: array<atomic<u32>, N_BINS>;
var<workgroup> low: array<atomic<u32>, N_BINS>;
var<workgroup> high: array<atomic<u32>, N_BINS>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_weigh(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (params.greedy != 0u) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&best_key, 0u);
    }
    for (var bin = lane; bin < N_BINS; bin += WORKGROUP_SIZE) {
        atomicStore(&counts[bin], 0u);
        atomicStore(&low[bin], 0u);
        atomicStore(&high[bin], 0u);
    }
    workgroupBarrier();
    for (var chunk = lane; chunk < shape.n_chunks; chunk += WORKGROUP_SIZE) {
        atomicMax(&best_key, chunks[chunk].x);
    }
    workgroupBarrier();
    let top = top_of(atomicLoad(&best_key));
    let end = (group.x + 1u) * CHUNK;
    for (var id = group.x * CHUNK + lane; id < end; id += WORKGROUP_SIZE) {
        var weight = vec2<u32>(0u);
        if (id < shape.n) {
            weight = weight_of(order_key(logits[id]), top);
        }
        weights[id] = weight;
        if ((weight.x | weight.y) != 0u) {
            let bin = bin_of(weight);
            atomicAdd(&counts[bin], 1u);
            let before = atomicAdd(&low[bin], weight.x);
            atomicAdd(&high[bin], weight.y + select(0u, 1u, before + weight.x < before));
        }
    }
    workgroupBarrier();
    for (var bin = lane; bin < N_BINS; bin += WORKGROUP_SIZE) {
        let count = atomicLoad(&counts[bin]);
        if (count != 0u) {
            let part = atomicLoad(&low[bin]);
            atomicAdd(&bins[bin * 3u], count);
            let before = atomicAdd(&bins[bin * 3u + 1u], part);
            let carry = select(0u, 1u, before + part < before);
            atomicAdd(&bins[bin * 3u + 2u], atomicLoad(&high[bin]) + carry);
        }
    }
}
