// The input of a gemv as it is.
// [n_rows, 8 * k8]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

fn prepare_input(slot: u32, row: u32, lane: Lane) {
}

// Four neighbouring elements of a row; `slot` is its place in the workgroup's batch.
fn input(slot: u32, row: u32, k4: u32) -> vec4<f32> {
    return x[row * params.k8 * 2u + k4];
}

// Nothing: the input was complete.
fn input_factor(slot: u32, lane: Lane) -> f32 {
    return 1.0;
}

