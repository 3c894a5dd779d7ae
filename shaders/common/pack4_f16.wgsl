// Four values of an f16 cache: half a Pack.
alias Pack4 = vec2<u32>;

fn pack4(value: vec4<f32>) -> Pack4 {
    return vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw));
}

