// Unsigned integer keys in the order of the logits.

// Keys of minus and plus infinity. NaN with its sign set has a key below the first; other
// NaN have keys above the second.
const KEY_MINUS_INFINITY: u32 = 0x007fffffu;
const KEY_PLUS_INFINITY: u32 = 0xff800000u;

// Returns an unsigned integer that orders like the float. Negative numbers are reversed
// and are below the positive ones. -0 counts as +0.
fn order_key(bits: u32) -> u32 {
    if (bits == 0x80000000u) {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// Returns the bits of the float that has this key.
fn bits_of_key(key: u32) -> u32 {
    return select(~key, key ^ 0x80000000u, (key & 0x80000000u) != 0u);
}
