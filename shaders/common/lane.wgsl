// A thread's place in its workgroup, for kernels without a reduction.
struct Lane {
    @builtin(local_invocation_index) index: u32,
}

