// Eight f32 values in 32 bytes.
alias Pack = mat2x4<f32>;

fn unpack8(pack: Pack) -> mat2x4<f32> {
    return pack;
}

fn pack8(value: mat2x4<f32>) -> Pack {
    return value;
}

