// Keys and values that no one looks at on their way into the cache.
fn note_overflow(part: u32, tag: u32, position: u32, value: vec4<f32>) {}

