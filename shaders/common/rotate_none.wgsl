// No rotary position embedding.
fn rotated(row: u32, column: u32, value: vec4<f32>) -> vec4<f32> {
    return value;
}
