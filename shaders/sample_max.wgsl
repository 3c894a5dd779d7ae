// chunks[c] = (largest key, its lowest id, 1 if any logit is NaN, 0) of the logits of chunk c.
//
// One workgroup computes one chunk. The first one also clears the bins of sample_weigh.
// Ragged edge: guarded.
//
// Fragments in common/: sample, order_key.

// [n]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [n_chunks]
@group(0) @binding(3) var<storage, read_write> chunks: array<vec4<u32>>;
// [N_BINS, 3]
@group(0) @binding(4) var<storage, read_write> bins: array<u32>;

var<workgroup> best_key: atomic<u32>;
var<workgroup> best_id: atomic<u32>;
var<workgroup> any_nan: atomic<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_max(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (lane == 0u) {
        atomicStore(&best_key, 0u);
        atomicStore(&best_id, 0xffffffffu);
        atomicStore(&any_nan, 0u);
    }
    if (group.x == 0u && params.greedy == 0u) {
        for (var i = lane; i < N_BINS * 3u; i += WORKGROUP_SIZE) {
            bins[i] = 0u;
        }
    }
    workgroupBarrier();
    let end = min((group.x + 1u) * CHUNK, shape.n);
    var key = 0u;
    var id = 0xffffffffu;
    var nan = 0u;
    for (var i = group.x * CHUNK + lane; i < end; i += WORKGROUP_SIZE) {
        let bits = logits[i];
        let is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
        nan |= select(0u, 1u, is_nan);
        let candidate = select(order_key(bits), 0u, is_nan);
        if (candidate > key) {
            key = candidate;
            id = i;
        }
    }
    atomicMax(&best_key, key);
    if (nan != 0u) {
        atomicStore(&any_nan, 1u);
    }
    workgroupBarrier();
    if (key == atomicLoad(&best_key)) {
        atomicMin(&best_id, id);
    }
    workgroupBarrier();
    if (lane == 0u) {
        chunks[group.x] =
            vec4<u32>(atomicLoad(&best_key), atomicLoad(&best_id), atomicLoad(&any_nan), 0u);
    }
}
