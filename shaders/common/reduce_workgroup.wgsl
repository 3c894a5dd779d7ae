// Workgroup reductions through workgroup memory. WORKGROUP_SIZE is a power of two.
struct Lane {
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> reduce_scratch: array<vec4<f32>, WORKGROUP_SIZE>;

// Returns the sum over all threads, in every thread. Call in uniform control flow.
fn workgroup_sum(value: vec4<f32>, lane: Lane) -> vec4<f32> {
    reduce_scratch[lane.index] = value;
    workgroupBarrier();
    for (var width = WORKGROUP_SIZE / 2u; width > 0u; width >>= 1u) {
        if (lane.index < width) {
            reduce_scratch[lane.index] += reduce_scratch[lane.index + width];
        }
        workgroupBarrier();
    }
    let total = reduce_scratch[0];
    // The next reduction overwrites the scratch.
    workgroupBarrier();
    return total;
}

// Returns the maxima over all threads, in every thread. Call in uniform control flow.
fn workgroup_max(value: vec4<f32>, lane: Lane) -> vec4<f32> {
    reduce_scratch[lane.index] = value;
    workgroupBarrier();
    for (var width = WORKGROUP_SIZE / 2u; width > 0u; width >>= 1u) {
        if (lane.index < width) {
            reduce_scratch[lane.index] = max(reduce_scratch[lane.index], reduce_scratch[lane.index + width]);
        }
        workgroupBarrier();
    }
    let total = reduce_scratch[0];
    workgroupBarrier();
    return total;
}

