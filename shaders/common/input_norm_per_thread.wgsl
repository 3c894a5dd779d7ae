// The input of a one-row per-thread gemv after a layer normalization, computed as in
// layer_norm:
// (x - mean) / sqrt(variance + epsilon) * weight + bias.
// Each workgroup computes the norm separately and stores it in workgroup memory. This is
// for software adapters, whose workgroups are one vector wide. Each lane sums its own
// part, then every lane sums all parts.
// Ragged edge: the padding of x is zero and is excluded from the variance; weight and
// bias are zero there.
// [first_row + n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<Load>;
// [2, 8 * k8]: weight, then bias
@group(0) @binding(6) var<storage, read> scale: array<Load>;

// Each of several rows would need its own statistics. A separate norm kernel computes
// them.
const_assert BATCH == 1u;

// [8 * k8]
var<workgroup> normed: array<Share, K8 * SHARES>;
var<workgroup> parts: array<vec2<f32>, WORKGROUP_SIZE>;

// Returns the sum over all lanes. Call in uniform control flow.
fn sum_of_parts(part: vec2<f32>, lane: Lane) -> vec2<f32> {
    parts[lane.index] = part;
    workgroupBarrier();
    var total = vec2<f32>(0.0);
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        total += parts[i];
    }
    // The next call overwrites `parts`.
    workgroupBarrier();
    return total;
}

fn prepare_input(slot: u32, row: u32, lane: Lane) {
    let n_shares = params.k8 * SHARES;
    let first = (step.first_row + row) * n_shares;
    let inverse_n = 1.0 / f32(params.norm_n);
    let one = Share(1.0);
    var sum = Share(0.0);
    for (var i = lane.index; i < n_shares; i += WORKGROUP_SIZE) {
        sum += load_share(x[first + i]);
    }
    let mean = sum_of_parts(vec2<f32>(dot(sum, one), 0.0), lane).x * inverse_n;
    var squares = Share(0.0);
    var rest = Share(0.0);
    for (var i = lane.index; i < n_shares; i += WORKGROUP_SIZE) {
        let d = select(Share(0.0), load_share(x[first + i]) - mean, share_below(i, params.norm_n));
        squares += d * d;
        rest += d;
    }
    let sums = sum_of_parts(vec2<f32>(dot(squares, one), dot(rest, one)), lane) * inverse_n;
    let factor = inverseSqrt(max(sums.x - sums.y * sums.y, 0.0) + params.epsilon);
    for (var i = lane.index; i < n_shares; i += WORKGROUP_SIZE) {
        let d = load_share(x[first + i]) - mean - sums.y;
        normed[i] = d * factor * load_share(scale[i]) + load_share(scale[n_shares + i]);
    }
    workgroupBarrier();
}

fn start_pass(slot: u32) {
}

// Returns share number `at` of a row. `slot` is the row's index in the thread's batch.
fn input(slot: u32, row: u32, at: u32) -> Share {
    return normed[at];
}

// Returns 1, because `input` already includes every factor.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return 1.0;
}

