// Token weights, computed only in integer arithmetic, so they are the same on every
// adapter.

// The largest key of all chunks. The kernels read `chunks`: [n_chunks] (key, id, NaN, 0).
struct Top {
    key: u32,
    fixed: vec2<u32>,
    far: bool,
}

// If the shift of a float is at least FAR_SHIFT, any other float differs from it by at
// least 2^39 units, which are at least 64 octaves.
const FAR_SHIFT: i32 = 40;

// Returns the number of bits by which the last bit of a finite float is above 2^lsb.
fn shift_of(bits: u32) -> i32 {
    return i32(max((bits >> 23u) & 0xffu, 1u)) - 150 - params.lsb;
}

// Returns a finite float in units of 2^lsb, rounded, modulo 2^64. Valid for a shift below
// FAR_SHIFT.
fn fixed_of(bits: u32) -> vec2<u32> {
    let normal = (bits & 0x7f800000u) != 0u;
    let mantissa = (bits & 0x7fffffu) | select(0u, 0x800000u, normal);
    let shift = shift_of(bits);
    // A mantissa has 24 bits, so a shift by more than 24 leaves nothing of it.
    let right = u32(clamp(-shift, 1, 25));
    let rounded = vec2<u32>((mantissa + (1u << (right - 1u))) >> right, 0u);
    let left = wide_shift_left(vec2<u32>(mantissa, 0u), u32(clamp(shift, 0, FAR_SHIFT)));
    let magnitude = select(left, rounded, shift < 0);
    return select(magnitude, wide_subtract(vec2<u32>(0u), magnitude), (bits & 0x80000000u) != 0u);
}

fn top_of(key: u32) -> Top {
    let bits = bits_of_key(key);
    return Top(key, fixed_of(bits), shift_of(bits) >= FAR_SHIFT);
}

// Returns 2^42 * 2^-(x / 2^32), up to a factor that all weights share. It decreases with
// x. For g from 0 to 1, 2^g - 1 is g times a polynomial that interpolates (2^g - 1) / g
// at the seven Chebyshev nodes. After rounding, the error of 2^g is below 1.4e-9.
fn exp2_fixed(x: vec2<u32>) -> vec2<u32> {
    let g = ~x.x;
    var sum = 0x00015bd2u;
    sum = 0x00099316u + wide_product(sum, g).y;
    sum = 0x0057bf1au + wide_product(sum, g).y;
    sum = 0x02763464u + wide_product(sum, g).y;
    sum = 0x0e3589f8u + wide_product(sum, g).y;
    sum = 0x3d7f7ba5u + wide_product(sum, g).y;
    sum = 0xb17217f8u + wide_product(sum, g).y;
    sum = wide_product(sum, g).y;
    let mantissa = 0x80000000u + (sum >> 1u);
    return wide_shift_right(vec2<u32>(mantissa << 10u, mantissa >> 22u), min(x.y, 63u));
}

// Returns the weight of a key; 0 for minus infinity.
fn weight_of(key: u32, top: Top) -> vec2<u32> {
    let bits = bits_of_key(key);
    let far = (top.far || shift_of(bits) >= FAR_SHIFT) && key != top.key;
    if (far || key <= KEY_MINUS_INFINITY || key >= KEY_PLUS_INFINITY) {
        return vec2<u32>(0u);
    }
    let distance = select(wide_subtract(top.fixed, fixed_of(bits)), vec2<u32>(0u), key == top.key);
    let low = wide_product(distance.x, params.scale).y;
    return exp2_fixed(wide_add(wide_product(distance.y, params.scale), vec2<u32>(low, 0u)));
}

// Returns the bin that counts a weight above 0. There are four bins per octave.
fn bin_of(weight: vec2<u32>) -> u32 {
    let octave = select(firstLeadingBit(weight.x), 32u + firstLeadingBit(weight.y), weight.y != 0u);
    let quarter = wide_shift_right(wide_shift_left(weight, 2u), octave).x & 3u;
    return octave * 4u + quarter;
}
