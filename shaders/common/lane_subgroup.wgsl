// A thread's indices in its workgroup and its subgroup, for kernels without a reduction.
struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
}

