// Four f32 in two loads of 64 bits: CPU adapters gather each element of a load
// by itself, so that wide elements are half as many gathers.
alias Load4 = vec2<u64>;

fn load4(value: Load4) -> vec4<f32> {
    return vec4<f32>(
        bitcast<f32>(u32(value.x)),
        bitcast<f32>(u32(value.x >> 32u)),
        bitcast<f32>(u32(value.y)),
        bitcast<f32>(u32(value.y >> 32u)),
    );
}

