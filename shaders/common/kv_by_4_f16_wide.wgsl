// Reads four values of an f16 cache per 64-bit load.
alias KvPack = u64;
alias KvValues = vec4<f32>;

fn kv_unpack(pack: KvPack) -> KvValues {
    return vec4<f32>(unpack2x16float(u32(pack)), unpack2x16float(u32(pack >> 32u)));
}
