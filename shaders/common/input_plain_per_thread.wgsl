// The input of a gemv per thread as it is.
// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<Load>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
}

fn start_pass(slot: u32) {
}

// Share number `at` of a row; `slot` is the row's place in the thread's batch.
fn input(slot: u32, row: u32, at: u32) -> Share {
    return load_share(x[row * params.k8 * SHARES + at]);
}

// Nothing: the input was complete.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return 1.0;
}

