//! What a pass brings back.

use crate::error::Error;

/// What a pass is to bring back.
pub enum Output<'a> {
    /// Nothing: the tokens only enter the cache.
    None,
    /// The logits of the last row, `[vocab_size]`.
    LastLogits(&'a mut Vec<f32>),
    /// The most probable token behind the last row.
    Argmax(&'a mut u32),
    /// The logits of every row, `[n_rows, vocab_size]`, behind what is there; at
    /// most [`super::Dims::logits_rows`] rows.
    Rows(&'a mut Vec<f32>),
    /// The most probable token behind every row, behind what is there; at most
    /// [`super::Dims::batch`] rows.
    ArgmaxRows(&'a mut Vec<u32>),
}

impl Output<'_> {
    /// Whether the head works on every row.
    pub(super) fn is_every_row(&self) -> bool {
        matches!(self, Output::Rows(_) | Output::ArgmaxRows(_))
    }

    pub(super) fn is_argmax(&self) -> bool {
        matches!(self, Output::Argmax(_) | Output::ArgmaxRows(_))
    }
}

/// The error for logits that no token can be chosen from.
#[must_use]
pub fn bad_logits() -> Error {
    Error::input(
        "the logits hold NaN or infinity, or all are minus infinity: the model's values overflow f16; try \
         --kv-dtype f32 and --dtype f32",
    )
}
