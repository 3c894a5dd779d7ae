// The input of a one-row gemv after a layer normalization, computed as in layer_norm:
// (x - mean) / sqrt(variance + epsilon) * weight + bias.
// Each workgroup computes the norm separately.
// Ragged edge: the padding of x is zero and is excluded from the variance; weight and
// bias are zero there.
// [first_row + n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [2, 8 * k8]: weight, then bias
@group(0) @binding(6) var<storage, read> scale: array<vec4<f32>>;

// Each of several rows would need its own statistics. A separate norm kernel computes
// them.
const_assert BATCH == 1u;

// The mean, then 1 / sqrt(variance + epsilon).
var<private> statistics: vec2<f32>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
    let first = (step.first_row + row) * params.k8 * 2u;
    let inverse_n = 1.0 / f32(params.norm_n);
    var sum = vec4<f32>(0.0);
    for (var i = lane.index; i < params.k8 * 2u; i += WORKGROUP_SIZE) {
        sum += x[first + i];
    }
    let mean = dot(workgroup_sum(sum, lane), vec4<f32>(inverse_n));
    var squares = vec4<f32>(0.0);
    var rest = vec4<f32>(0.0);
    for (var i = lane.index; i < params.k8 * 2u; i += WORKGROUP_SIZE) {
        let used = vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) < vec4<u32>(params.norm_n);
        let d = select(vec4<f32>(0.0), x[first + i] - mean, used);
        squares += d * d;
        rest += d;
    }
    let one = vec4<f32>(1.0);
    let sums = workgroup_sum(vec4<f32>(dot(squares, one), dot(rest, one), 0.0, 0.0), lane) * inverse_n;
    let variance = sums.x - sums.y * sums.y;
    statistics = vec2<f32>(mean + sums.y, inverseSqrt(max(variance, 0.0) + params.epsilon));
}

// Returns four consecutive elements of a row. `slot` is the row's index in the
// workgroup's batch.
fn input(slot: u32, row: u32, k4: u32) -> vec4<f32> {
    let d = x[(step.first_row + row) * params.k8 * 2u + k4] - statistics.x;
    return d * statistics.y * scale[k4] + scale[params.k8 * 2u + k4];
}

// Returns 1, because `input` already includes every factor.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return 1.0;
}

