// The order of logits as unsigned integers.

// Keys of minus infinity, below which lie NaN with its sign set, and of plus
// infinity, above which lie the other NaN.
const KEY_MINUS_INFINITY: u32 = 0x007fffffu;
const KEY_PLUS_INFINITY: u32 = 0xff800000u;

// An unsigned integer that orders like the float: negative numbers reversed
// below the positive ones; -0 counts as +0.
fn order_key(bits: u32) -> u32 {
    if (bits == 0x80000000u) {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// The float that has the key.
fn bits_of_key(key: u32) -> u32 {
    return select(~key, key ^ 0x80000000u, (key & 0x80000000u) != 0u);
}
