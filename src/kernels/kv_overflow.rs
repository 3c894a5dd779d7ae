//! The flag of keys and values that f16 cannot hold.

use crate::gpu::GpuBuffer;

/// Bytes of the flag: a word for keys, one for values.
pub const OVERFLOW_FLAG_BYTES: u64 = 8;

/// Numbers that [`OverflowFlag::tag`] may have: 12 bits of a word...
pub const TAGS_MAX: usize = 1 << 12;
/// ...and positions that may stand beside one: the other 20.
pub const POSITIONS_MAX: usize = 1 << 20;

/// Where the kernels that append to a cache note values that f16 cannot hold: whose
/// magnitude rounds to more than 65504, or NaN.
#[derive(Clone, Copy, Debug)]
pub struct OverflowFlag<'a> {
    /// `[2 (keys, values)]`, u32; zeros before a pass.
    pub buffer: &'a GpuBuffer,
    /// What is noted beside the position: the caller's number, below [`TAGS_MAX`].
    pub tag: usize,
}

/// What a flag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvOverflow {
    /// The lowest [`OverflowFlag::tag`] of those that noted something.
    pub tag: usize,
    /// The lowest position that it noted.
    pub position: usize,
    /// Whether it is a value, no key, that f16 cannot hold there.
    pub is_value: bool,
}

impl KvOverflow {
    /// What the words of a flag say; `None` where nothing was noted. Of a key and a
    /// value of one position the key is named.
    ///
    /// The highest tag of all with the highest position of all looks like nothing.
    #[must_use]
    pub fn lowest(words: [u32; 2]) -> Option<Self> {
        let noted = words.into_iter().zip([false, true]).filter(|&(word, _)| word != 0);
        // The first of equals.
        let (place, is_value) = noted.map(|(word, is_value)| (u32::MAX - word, is_value)).min()?;
        let (tag, position) = (place as usize / POSITIONS_MAX, place as usize % POSITIONS_MAX);
        Some(KvOverflow { tag, position, is_value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_tag_then_the_lowest_position_then_the_key_is_named() {
        let word = |tag: u32, position: u32| u32::MAX - (tag << 20 | position);
        let lowest =
            |words| KvOverflow::lowest(words).map(|found| (found.tag, found.position, found.is_value));
        assert_eq!(lowest([0, 0]), None);
        assert_eq!(lowest([word(0, 0), 0]), Some((0, 0, false)));
        assert_eq!(lowest([word(3, 9), word(3, 9)]), Some((3, 9, false)));
        assert_eq!(lowest([word(3, 9), word(3, 8)]), Some((3, 8, true)));
        assert_eq!(lowest([word(3, 9), word(4, 0)]), Some((3, 9, false)));
        let last = (1 << 20) - 1;
        assert_eq!(lowest([0, word(4095, last - 1)]), Some((4095, last as usize - 1, true)));
        assert_eq!(lowest([0, word(4094, last)]), Some((4094, last as usize, true)));
    }
}
