// The input of a gemv behind an RMS norm: x / sqrt(mean of x^2 + epsilon) * weight.
// The factor is one number a row, so that the sums run over x * weight, the squares
// are added up on the way, and the factor comes last: no pass over x in front.
// Ragged edge: the padding of x is zero.
// [first_row + n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [8 * k8]
@group(0) @binding(6) var<storage, read> scale: array<vec4<f32>>;

// Of the elements that the thread has read, by the row's place in the batch.
var<private> squares: array<f32, BATCH>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
    squares[slot] = 0.0;
}

// Four neighbouring elements of a row; `slot` is its place in the workgroup's batch.
// The threads of a workgroup share the row: each element is read once.
fn input(slot: u32, row: u32, k4: u32) -> vec4<f32> {
    let value = x[(step.first_row + row) * params.k8 * 2u + k4];
    squares[slot] += dot(value, value);
    return value * scale[k4];
}

// The factor that the input left out. Call in uniform control flow.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    let total = workgroup_sum(vec4<f32>(squares[slot]), lane).x;
    return inverseSqrt(total / f32(params.norm_n) + params.epsilon);
}

