// out[i] = x[i], for i in 0..n
//
// This kernel measures the bandwidth with which other kernels are compared. A workgroup
// copies WORKGROUP_SIZE * ITEMS packs of 16 bytes. The packs of adjacent threads are
// LANE_STRIDE apart, and a thread's successive packs are ITEM_STRIDE apart.
// Ragged edge: guarded.
//
// Fragments in common/: none.
struct ProbeCopyParams {
    n: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: ProbeCopyParams;
// [n]
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
// [n]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn probe_copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (group.y * groups.x + group.x) * WORKGROUP_SIZE * ITEMS + lane * LANE_STRIDE;
    for (var item = 0u; item < ITEMS; item++) {
        let i = first + item * ITEM_STRIDE;
        if (i < params.n) {
            out[i] = x[i];
        }
    }
}
