// Inclusive prefix sums of pairs of 64-bit integers over the threads. WORKGROUP_SIZE is
// 256.
//
// The scan has two levels of 16, because software adapters compile and run barriers
// slowly. It needs three barriers; a scan by doubling needs 17.
const GROUP: u32 = 16u;

struct ScannedPair {
    // The sum over this thread and those before it.
    sum: vec4<u32>,
    // The sum over all threads.
    total: vec4<u32>,
}

var<workgroup> scan_values: array<vec4<u32>, WORKGROUP_SIZE>;
var<workgroup> scan_totals: array<vec4<u32>, GROUP>;

fn add_pair(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(wide_add(a.xy, b.xy), wide_add(a.zw, b.zw));
}

fn subtract_pair(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(wide_subtract(a.xy, b.xy), wide_subtract(a.zw, b.zw));
}

// Call in uniform control flow.
fn scan_pair(lane: u32, value: vec4<u32>) -> ScannedPair {
    // Threads may still be reading the values of the previous call.
    workgroupBarrier();
    scan_values[lane] = value;
    workgroupBarrier();
    if (lane < GROUP) {
        var total = vec4<u32>(0u);
        for (var i = lane * GROUP; i < (lane + 1u) * GROUP; i++) {
            total = add_pair(total, scan_values[i]);
        }
        scan_totals[lane] = total;
    }
    workgroupBarrier();
    let group = lane / GROUP;
    var result = ScannedPair(vec4<u32>(0u), vec4<u32>(0u));
    for (var i = 0u; i < GROUP; i++) {
        if (i == group) {
            result.sum = result.total;
        }
        result.total = add_pair(result.total, scan_totals[i]);
    }
    for (var i = group * GROUP; i <= lane; i++) {
        result.sum = add_pair(result.sum, scan_values[i]);
    }
    return result;
}
