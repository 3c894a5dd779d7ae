// Rotates every head by its row's position. It takes four consecutive elements of a row's
// head. `i` counts vec4 of the head.
fn rotate(row: u32, i: u32, value: vec4<f32>) -> vec4<f32> {
    return turned(row, i, HEAD_DIM / 4u, value);
}
