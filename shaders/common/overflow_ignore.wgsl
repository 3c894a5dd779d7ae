// Does not check keys and values for f16 overflow.
fn note_overflow(part: u32, tag: u32, position: u32, value: vec4<f32>) {}

