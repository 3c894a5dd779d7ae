// Rotates the first heads of a row by the row's position. It takes four consecutive
// elements of a row. `column` counts vec4 of the row.
fn rotated(row: u32, column: u32, value: vec4<f32>) -> vec4<f32> {
    if (column >= params.rotated4) {
        return value;
    }
    return turned(row, column % params.head4, params.head4, value);
}
