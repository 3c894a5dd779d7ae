//! The flag that records f16 overflow of keys and values.

use crate::gpu::GpuBuffer;

/// Bytes of the flag: one word for keys, one for values.
pub const OVERFLOW_FLAG_BYTES: u64 = 8;

/// Number of values of [`OverflowFlag::tag`]: 12 bits of a word.
pub const TAGS_MAX: usize = 1 << 12;
/// Number of positions that can be recorded with a tag. They take the other 20 bits.
pub const POSITIONS_MAX: usize = 1 << 20;

/// The flag in which kernels that append to a cache record f16 overflow: a value whose
/// magnitude rounds to more than 65504, or NaN.
#[derive(Clone, Copy, Debug)]
pub struct OverflowFlag<'a> {
    /// `[2 (keys, values)]`, u32; must be zero before a pass.
    pub buffer: &'a GpuBuffer,
    /// A number that the caller chooses, below [`TAGS_MAX`]. It is recorded with the
    /// position.
    pub tag: usize,
}

/// The f16 overflow that a flag reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvOverflow {
    /// The lowest [`OverflowFlag::tag`] with an overflow.
    pub tag: usize,
    /// The lowest position recorded with that tag.
    pub position: usize,
    /// Whether a value overflows there, instead of a key.
    pub is_value: bool,
}

impl KvOverflow {
    /// Decodes the words of a flag; `None` if nothing was recorded. If both a key and a
    /// value of the same position overflow, the key is reported.
    ///
    /// The highest tag with the highest position looks like an empty flag.
    #[must_use]
    pub fn lowest(words: [u32; 2]) -> Option<Self> {
        let recorded = words.into_iter().zip([false, true]).filter(|&(word, _)| word != 0);
        // If both are at the same place, the key is first.
        let (place, is_value) = recorded.map(|(word, is_value)| (u32::MAX - word, is_value)).min()?;
        let (tag, position) = (place as usize / POSITIONS_MAX, place as usize % POSITIONS_MAX);
        Some(KvOverflow { tag, position, is_value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_tag_then_position_then_the_key_is_reported() {
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
