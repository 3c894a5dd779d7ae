// No rotary position embedding.
fn turned(row: u32, i: u32, head4: u32, value: vec4<f32>) -> vec4<f32> {
    return value;
}
