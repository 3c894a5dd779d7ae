// result[row] = (index of the largest of logits[row, 0..n], fault, 0, 0). If there is a
// tie, the lowest index wins. fault is 1 if any logit is NaN or plus infinity, or if all
// are minus infinity.
//
// One workgroup computes one row. NaN is detected by its bits, because compilers may
// assume that it does not occur.
// Ragged edge: guarded.
//
// Fragments in common/: order_key.
struct ArgmaxParams {
    n: u32,
    // Length of a row.
    stride: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: ArgmaxParams;
// [n_rows, stride]
@group(0) @binding(1) var<storage, read> logits: array<u32>;
// [n_rows, 4]
@group(0) @binding(2) var<storage, read_write> result: array<u32>;

var<workgroup> best_key: array<u32, WORKGROUP_SIZE>;
var<workgroup> best_index: array<u32, WORKGROUP_SIZE>;
var<workgroup> any_nan: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn argmax(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * params.stride;
    var key = 0u;
    var index = 0u;
    var nan = 0u;
    for (var i = lane; i < params.n; i += WORKGROUP_SIZE) {
        let bits = logits[first + i];
        if ((bits & 0x7fffffffu) > 0x7f800000u) {
            nan = 1u;
        } else {
            let candidate = order_key(bits);
            if (candidate > key) {
                key = candidate;
                index = i;
            }
        }
    }
    best_key[lane] = key;
    best_index[lane] = index;
    any_nan[lane] = nan;
    workgroupBarrier();
    for (var width = WORKGROUP_SIZE / 2u; width > 0u; width >>= 1u) {
        if (lane < width) {
            let other = lane + width;
            let wins = best_key[other] > best_key[lane]
                || (best_key[other] == best_key[lane] && best_index[other] < best_index[lane]);
            if (wins) {
                best_key[lane] = best_key[other];
                best_index[lane] = best_index[other];
            }
            any_nan[lane] |= any_nan[other];
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        let to = group.x * 4u;
        result[to] = best_index[0];
        let fault = any_nan[0] != 0u || best_key[0] <= KEY_MINUS_INFINITY || best_key[0] >= KEY_PLUS_INFINITY;
        result[to + 1u] = select(0u, 1u, fault);
        result[to + 2u] = 0u;
        result[to + 3u] = 0u;
    }
}
