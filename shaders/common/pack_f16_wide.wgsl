// Eight f16 values in two 64-bit loads: pack_f16 for reading only.
alias Pack = vec2<u64>;

fn unpack8(pack: Pack) -> mat2x4<f32> {
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(u32(pack.x)), unpack2x16float(u32(pack.x >> 32u))),
        vec4<f32>(unpack2x16float(u32(pack.y)), unpack2x16float(u32(pack.y >> 32u))),
    );
}

