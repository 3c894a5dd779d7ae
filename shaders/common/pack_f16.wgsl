// Eight f16 values in 16 bytes. unpack2x16float is core WGSL, so f16 storage needs no
// shader feature.
alias Pack = vec4<u32>;

fn unpack8(pack: Pack) -> mat2x4<f32> {
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(pack.x), unpack2x16float(pack.y)),
        vec4<f32>(unpack2x16float(pack.z), unpack2x16float(pack.w)),
    );
}

fn pack8(value: mat2x4<f32>) -> Pack {
    return vec4<u32>(
        pack2x16float(value[0].xy),
        pack2x16float(value[0].zw),
        pack2x16float(value[1].xy),
        pack2x16float(value[1].zw),
    );
}

