// Four f32 in two 64-bit loads. Software adapters gather each element of a load
// separately, so wide elements need half as many gathers.
alias Load4 = vec2<u64>;

fn load4(value: Load4) -> vec4<f32> {
    return vec4<f32>(
        bitcast<f32>(u32(value.x)),
        bitcast<f32>(u32(value.x >> 32u)),
        bitcast<f32>(u32(value.y)),
        bitcast<f32>(u32(value.y >> 32u)),
    );
}

fn store4(value: vec4<f32>) -> Load4 {
    let bits = bitcast<vec4<u32>>(value);
    return vec2<u64>(u64(bits.x) | u64(bits.y) << 32u, u64(bits.z) | u64(bits.w) << 32u);
}
