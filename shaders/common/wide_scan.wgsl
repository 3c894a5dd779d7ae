// Sums over the threads before each one; WORKGROUP_SIZE is a power of two.
var<workgroup> scanned: array<vec2<u32>, WORKGROUP_SIZE>;

// The sum over this thread and those before it; scanned[WORKGROUP_SIZE - 1] is
// the sum over all until the next call. Call in uniform control flow.
fn wide_scan(lane: u32, value: vec2<u32>) -> vec2<u32> {
    // Threads may still read the sums of the call before.
    workgroupBarrier();
    scanned[lane] = value;
    workgroupBarrier();
    var sum = value;
    for (var width = 1u; width < WORKGROUP_SIZE; width <<= 1u) {
        if (lane >= width) {
            sum = wide_add(sum, scanned[lane - width]);
        }
        workgroupBarrier();
        scanned[lane] = sum;
        workgroupBarrier();
    }
    return sum;
}
