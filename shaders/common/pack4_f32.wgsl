// Four values of an f32 cache: half a Pack.
alias Pack4 = vec4<f32>;

fn pack4(value: vec4<f32>) -> Pack4 {
    return value;
}

