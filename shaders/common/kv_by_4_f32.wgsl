// Reads four values of an f32 cache per load. load_plain or load_wide defines Load4.
alias KvPack = Load4;
alias KvValues = vec4<f32>;

fn kv_unpack(pack: KvPack) -> KvValues {
    return load4(pack);
}
