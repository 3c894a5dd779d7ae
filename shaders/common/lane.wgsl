// A thread's index in its workgroup, for kernels without a reduction.
struct Lane {
    @builtin(local_invocation_index) index: u32,
}

