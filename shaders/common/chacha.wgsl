// ChaCha with 8 rounds (Bernstein 2008), stream 0. The CPU sampler uses the same
// generator. Each block is computed from its number.

fn quarter_round(v: vec4<u32>) -> vec4<u32> {
    var a = v.x + v.y;
    var d = v.w ^ a;
    d = (d << 16u) | (d >> 16u);
    var c = v.z + d;
    var b = v.y ^ c;
    b = (b << 12u) | (b >> 20u);
    a += b;
    d ^= a;
    d = (d << 8u) | (d >> 24u);
    c += d;
    b ^= c;
    b = (b << 7u) | (b >> 25u);
    return vec4<u32>(a, b, c, d);
}

// Returns the 16 words of a block: element i holds words 4 i to 4 i + 3.
fn chacha_block(key_low: vec4<u32>, key_high: vec4<u32>, block: vec2<u32>) -> array<vec4<u32>, 4> {
    let a0 = vec4<u32>(0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u);
    let d0 = vec4<u32>(block, 0u, 0u);
    var a = a0;
    var b = key_low;
    var c = key_high;
    var d = d0;
    for (var round = 0u; round < 4u; round++) {
        let p = quarter_round(vec4<u32>(a.x, b.x, c.x, d.x));
        let q = quarter_round(vec4<u32>(a.y, b.y, c.y, d.y));
        let r = quarter_round(vec4<u32>(a.z, b.z, c.z, d.z));
        let s = quarter_round(vec4<u32>(a.w, b.w, c.w, d.w));
        let t = quarter_round(vec4<u32>(p.x, q.y, r.z, s.w));
        let u = quarter_round(vec4<u32>(q.x, r.y, s.z, p.w));
        let v = quarter_round(vec4<u32>(r.x, s.y, p.z, q.w));
        let w = quarter_round(vec4<u32>(s.x, p.y, q.z, r.w));
        a = vec4<u32>(t.x, u.x, v.x, w.x);
        b = vec4<u32>(w.y, t.y, u.y, v.y);
        c = vec4<u32>(v.z, w.z, t.z, u.z);
        d = vec4<u32>(u.w, v.w, w.w, t.w);
    }
    return array<vec4<u32>, 4>(a + a0, b + key_low, c + key_high, d + d0);
}
