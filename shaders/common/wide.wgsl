// Unsigned 64-bit integers: x is the low word, y the high word.

fn wide_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

// Modulo 2^64.
fn wide_subtract(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn wide_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// `shift` is from 0 to 63.
fn wide_shift_left(a: vec2<u32>, shift: u32) -> vec2<u32> {
    let across = select(a.x >> ((32u - shift) & 31u), 0u, shift == 0u);
    let below_32 = vec2<u32>(a.x << (shift & 31u), (a.y << (shift & 31u)) | across);
    return select(below_32, vec2<u32>(0u, a.x << (shift & 31u)), shift >= 32u);
}

// `shift` is from 0 to 63.
fn wide_shift_right(a: vec2<u32>, shift: u32) -> vec2<u32> {
    let across = select(a.y << ((32u - shift) & 31u), 0u, shift == 0u);
    let below_32 = vec2<u32>((a.x >> (shift & 31u)) | across, a.y >> (shift & 31u));
    return select(below_32, vec2<u32>(a.y >> (shift & 31u), 0u), shift >= 32u);
}

// Returns the product of two words, computed from the products of their halves.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
    return vec2<u32>((other << 16u) | (low & 0xffffu), high);
}

// Returns a * n modulo 2^64.
fn wide_times(a: vec2<u32>, n: u32) -> vec2<u32> {
    return wide_product(a.x, n) + vec2<u32>(0u, a.y * n);
}

// Returns floor(a * b / 2^64).
fn wide_product_high(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let cross = wide_product(a.x, b.y);
    let first = wide_add(wide_product(a.y, b.x), vec2<u32>(wide_product(a.x, b.x).y, 0u));
    let second = wide_add(cross, vec2<u32>(first.x, 0u));
    return wide_add(wide_product(a.y, b.y), wide_add(vec2<u32>(first.y, 0u), vec2<u32>(second.y, 0u)));
}
