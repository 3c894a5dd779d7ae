// The unchanged input of a per-thread gemv.
// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<Load>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
}

fn start_pass(slot: u32) {
}

// Returns share number `at` of a row. `slot` is the row's index in the thread's batch.
fn input(slot: u32, row: u32, at: u32) -> Share {
    return load_share(x[row * params.k8 * SHARES + at]);
}

// Returns 1, because the input needs no factor.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return 1.0;
}

