// The input of a gemv after an RMS norm:
// x / sqrt(mean of x^2 + epsilon) * weight.
// The reciprocal root is one factor per row, so it is applied at the end. The gemv sums x
// * weight, and `input` adds up the squares of the elements that it reads. There is no
// separate pass over x.
// Ragged edge: the padding of x is zero.
// [first_row + n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [8 * k8]
@group(0) @binding(6) var<storage, read> scale: array<vec4<f32>>;

// Sum of the squares of the elements that this thread has read, per row of the batch.
var<private> squares: array<f32, BATCH>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
    squares[slot] = 0.0;
}

// Returns four consecutive elements of a row, without the row's factor. `slot` is the
// row's index in the workgroup's batch. The threads of a workgroup share the row, so each
// element is read once.
fn input(slot: u32, row: u32, k4: u32) -> vec4<f32> {
    let value = x[(step.first_row + row) * params.k8 * 2u + k4];
    squares[slot] += dot(value, value);
    return value * scale[k4];
}

// Returns the factor that `input` omits. Call in uniform control flow.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    let total = workgroup_sum(vec4<f32>(squares[slot]), lane).x;
    return inverseSqrt(total / f32(params.norm_n) + params.epsilon);
}

