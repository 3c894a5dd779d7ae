// Workgroup reductions with subgroup operations, for any subgroup size.
struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
}

// One entry per subgroup. A subgroup has at least one thread.
var<workgroup> reduce_scratch: array<vec4<f32>, WORKGROUP_SIZE>;

// Returns the sum over all threads, in every thread. Call in uniform control flow.
fn workgroup_sum(value: vec4<f32>, lane: Lane) -> vec4<f32> {
    let partial = subgroupAdd(value);
    if (lane.in_subgroup == 0u) {
        reduce_scratch[lane.subgroup] = partial;
    }
    workgroupBarrier();
    var total = reduce_scratch[0];
    for (var i = 1u; i < lane.n_subgroups; i++) {
        total += reduce_scratch[i];
    }
    // The next reduction overwrites the scratch.
    workgroupBarrier();
    return total;
}

// Returns the maxima over all threads, in every thread. Call in uniform control flow.
fn workgroup_max(value: vec4<f32>, lane: Lane) -> vec4<f32> {
    let partial = subgroupMax(value);
    if (lane.in_subgroup == 0u) {
        reduce_scratch[lane.subgroup] = partial;
    }
    workgroupBarrier();
    var total = reduce_scratch[0];
    for (var i = 1u; i < lane.n_subgroups; i++) {
        total = max(total, reduce_scratch[i]);
    }
    workgroupBarrier();
    return total;
}

