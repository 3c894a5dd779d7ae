// No rotary position embedding.
fn rotate(row: u32, i: u32, value: vec4<f32>) -> vec4<f32> {
    return value;
}

