// out[t] = exclusive or of the packs of thread t: x[first(t) + j * ITEM_STRIDE] for j in 0..ITEMS
//
// This kernel measures the bandwidth of kernels that read much more than they write. A
// workgroup reads WORKGROUP_SIZE * ITEMS packs of 16 bytes. Adjacent threads start
// LANE_STRIDE packs apart.
// Ragged edge: guarded. A thread beyond n writes 0.
//
// Fragments in common/: none.
struct ProbeReadParams {
    n: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: ProbeReadParams;
// [n]
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
// [workgroups * WORKGROUP_SIZE]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn probe_read(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let first = index * WORKGROUP_SIZE * ITEMS + lane * LANE_STRIDE;
    var folded = vec4<u32>(0u);
    for (var item = 0u; item < ITEMS; item++) {
        let i = first + item * ITEM_STRIDE;
        if (i < params.n) {
            folded ^= x[i];
        }
    }
    out[index * WORKGROUP_SIZE + lane] = folded;
}
