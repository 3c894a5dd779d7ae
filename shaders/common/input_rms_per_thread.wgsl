// The input of a gemv per thread behind an RMS norm: x / sqrt(mean of x^2 + epsilon)
// * weight. The factor is one number a row, so that the sums run over x * weight, the
// squares are added up on the way, and the factor comes last: no pass over x in front,
// and no barrier, since every pass over the weights reads all of x anyway. Ragged
// edge: the padding of x is zero.
// [first_row + n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<Load>;
// [8 * k8]
@group(0) @binding(6) var<storage, read> scale: array<Load>;

// Of the thread's shares, by the row's place in the batch. A sum for each element of a
// share: one would wait for itself.
var<private> squares: array<Share, BATCH>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
}

// Each pass adds up the same squares.
fn start_pass(slot: u32) {
    squares[slot] = Share(0.0);
}

// Share number `at` of a row; `slot` is the row's place in the thread's batch. A pass
// reads each share once.
fn input(slot: u32, row: u32, at: u32) -> Share {
    let value = load_share(x[(step.first_row + row) * params.k8 * SHARES + at]);
    squares[slot] = fma(value, value, squares[slot]);
    return value * load_share(scale[at]);
}

// The factor that the input left out. Call in uniform control flow.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return inverseSqrt(sum_shares(squares[slot]) / f32(params.norm_n) + params.epsilon);
}

