// The unchanged input of a gemv.
// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
}

// Returns four consecutive elements of a row. `slot` is the row's index in the
// workgroup's batch.
fn input(slot: u32, row: u32, k4: u32) -> vec4<f32> {
    return x[row * params.k8 * 2u + k4];
}

// Returns 1, because the input needs no factor.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return 1.0;
}

