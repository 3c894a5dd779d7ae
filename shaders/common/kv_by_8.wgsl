// Reads eight values of the cache per load.
alias KvPack = Pack;
alias KvValues = mat2x4<f32>;

fn kv_unpack(pack: KvPack) -> KvValues {
    return unpack8(pack);
}
