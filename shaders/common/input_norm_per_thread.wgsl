// The input of a gemv of one row behind a layer normalization, computed by each workgroup
// for itself: (x - mean) / sqrt(variance + epsilon) * weight + bias, as layer_norm
// computes it, left in workgroup memory. For CPU adapters, whose workgroups are
// one vector wide: every lane adds up its share, and all of the shares. Ragged
// edge: the padding of x is zero and left out of the variance; weight and bias are
// zero there.
// [first_row + n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<Load4>;
// [2, 8 * k8]: weight, then bias
@group(0) @binding(6) var<storage, read> scale: array<Load4>;

// Several rows would each need their statistics: a norm of its own serves them.
const_assert BATCH == 1u;

// [8 * k8]
var<workgroup> normed: array<vec4<f32>, K4>;
var<workgroup> shares: array<vec2<f32>, WORKGROUP_SIZE>;

// The sums over all lanes. Call in uniform control flow.
fn sum_of_shares(share: vec2<f32>, lane: Lane) -> vec2<f32> {
    shares[lane.index] = share;
    workgroupBarrier();
    var total = vec2<f32>(0.0);
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        total += shares[i];
    }
    // The next sum writes the shares again.
    workgroupBarrier();
    return total;
}

fn prepare_input(slot: u32, row: u32, lane: Lane) {
    let first = (step.first_row + row) * params.k8 * 2u;
    let inverse_n = 1.0 / f32(params.norm_n);
    let one = vec4<f32>(1.0);
    var sum = vec4<f32>(0.0);
    for (var i = lane.index; i < params.k8 * 2u; i += WORKGROUP_SIZE) {
        sum += load4(x[first + i]);
    }
    let mean = sum_of_shares(vec2<f32>(dot(sum, one), 0.0), lane).x * inverse_n;
    var squares = vec4<f32>(0.0);
    var rest = vec4<f32>(0.0);
    for (var i = lane.index; i < params.k8 * 2u; i += WORKGROUP_SIZE) {
        let used = vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) < vec4<u32>(params.norm_n);
        let d = select(vec4<f32>(0.0), load4(x[first + i]) - mean, used);
        squares += d * d;
        rest += d;
    }
    let sums = sum_of_shares(vec2<f32>(dot(squares, one), dot(rest, one)), lane) * inverse_n;
    let factor = inverseSqrt(max(sums.x - sums.y * sums.y, 0.0) + params.epsilon);
    for (var i = lane.index; i < params.k8 * 2u; i += WORKGROUP_SIZE) {
        let d = load4(x[first + i]) - mean - sums.y;
        normed[i] = d * factor * load4(scale[i]) + load4(scale[params.k8 * 2u + i]);
    }
    workgroupBarrier();
}

// Four neighbouring elements of a row; `slot` is its place in the workgroup's batch.
fn input(slot: u32, row: u32, k4: u32) -> vec4<f32> {
    return normed[k4];
}

// Nothing: the input was complete.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return 1.0;
}

