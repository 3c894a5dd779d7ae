// Notes keys and values that f16 cannot hold.
//
// 65520 is the least that rounds to infinity. Compilers may assume that NaN and
// infinity do not occur, so bits are compared: those of a magnitude rise with it, NaN
// standing behind infinity. The lowest tag is noted, of equal ones the lowest
// position.

// [2 (keys, values)], 0 for none, else 0xffffffff - (tag << 20 | position)
@group(0) @binding(8) var<storage, read_write> overflow: array<atomic<u32>, 2>;

fn note_overflow(part: u32, tag: u32, position: u32, value: vec4<f32>) {
    let magnitude = bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu);
    if (any(magnitude >= vec4<u32>(0x477ff000u))) {
        atomicMax(&overflow[part], 0xffffffffu - ((tag << 20u) | position));
    }
}

