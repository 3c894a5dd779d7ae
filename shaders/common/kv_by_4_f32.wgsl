// The cache in f32 in loads of four values; Load4 is that of load_plain or load_wide.
alias KvPack = Load4;
alias KvValues = vec4<f32>;

fn kv_unpack(pack: KvPack) -> KvValues {
    return load4(pack);
}
