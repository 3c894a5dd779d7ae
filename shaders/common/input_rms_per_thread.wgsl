// The input of a per-thread gemv after an RMS norm:
// x / sqrt(mean of x^2 + epsilon) * weight.
// The reciprocal root is one factor per row, so it is applied at the end. The gemv sums x
// * weight, and `input` adds up the squares of the elements that it reads. There is no
// separate pass over x and no barrier, because every pass over the weights reads all of x
// anyway.
// Ragged edge: the padding of x is zero.
// [first_row + n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<Load>;
// [8 * k8]
@group(0) @binding(6) var<storage, read> scale: array<Load>;

// Sums of the squares of this thread's shares, per row of the batch. Each element of a
// share has its own sum, because additions to a single sum would wait for one another.
var<private> squares: array<Share, BATCH>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
}

// Each pass adds up the same squares again.
fn start_pass(slot: u32) {
    squares[slot] = Share(0.0);
}

// Returns share number `at` of a row, without the row's factor. `slot` is the row's index
// in the thread's batch. A pass reads each share once.
fn input(slot: u32, row: u32, at: u32) -> Share {
    let value = load_share(x[(step.first_row + row) * params.k8 * SHARES + at]);
    squares[slot] = fma(value, value, squares[slot]);
    return value * load_share(scale[at]);
}

// Returns the factor that `input` omits. Call in uniform control flow.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return inverseSqrt(sum_shares(squares[slot]) / f32(params.norm_n) + params.epsilon);
}

