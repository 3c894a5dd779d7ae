// Reads four values of an f16 cache per load.
alias KvPack = vec2<u32>;
alias KvValues = vec4<f32>;

fn kv_unpack(pack: KvPack) -> KvValues {
    return vec4<f32>(unpack2x16float(pack.x), unpack2x16float(pack.y));
}
