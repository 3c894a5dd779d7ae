// Records f16 overflow of keys and values.
//
// 65520 is the smallest magnitude that rounds to infinity. Compilers may assume that NaN
// and infinity do not occur, so the code compares bits. They increase with the magnitude,
// and the bits of NaN are above those of infinity. The lowest tag is recorded, and for
// equal tags the lowest position.

// [2 (keys, values)]: 0 for none, or else 0xffffffff - (tag << 20 | position)
@group(0) @binding(8) var<storage, read_write> overflow: array<atomic<u32>, 2>;

fn note_overflow(part: u32, tag: u32, position: u32, value: vec4<f32>) {
    let magnitude = bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu);
    if (any(magnitude >= vec4<u32>(0x477ff000u))) {
        atomicMax(&overflow[part], 0xffffffffu - ((tag << 20u) | position));
    }
}

