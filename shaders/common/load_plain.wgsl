// Four f32 in one load.
alias Load4 = vec4<f32>;

fn load4(value: Load4) -> vec4<f32> {
    return value;
}

fn store4(value: vec4<f32>) -> Load4 {
    return value;
}
