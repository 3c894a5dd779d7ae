// Eight f32 values in four 64-bit loads: pack_f32 for reading only.
struct Pack {
    low: vec2<u64>,
    high: vec2<u64>,
}

fn unpack_pairs(pairs: vec2<u64>) -> vec4<f32> {
    return vec4<f32>(
        bitcast<f32>(u32(pairs.x)),
        bitcast<f32>(u32(pairs.x >> 32u)),
        bitcast<f32>(u32(pairs.y)),
        bitcast<f32>(u32(pairs.y >> 32u)),
    );
}

fn unpack8(pack: Pack) -> mat2x4<f32> {
    return mat2x4<f32>(unpack_pairs(pack.low), unpack_pairs(pack.high));
}
