//! The results that a pass reads back.

use super::recordings::HeadRows;
use crate::error::Error;
use crate::kernels::KvOverflow;
use crate::kernels::score::TokenScore;

/// The result to read back from a pass.
pub enum Output<'a> {
    /// Nothing: the tokens only enter the cache.
    None,
    /// The logits of the last row, `[vocab_size]`.
    LastLogits(&'a mut Vec<f32>),
    /// The most probable token after the last row.
    Argmax(&'a mut u32),
    /// The logits of every row, `[n_rows, vocab_size]`, appended to the vector; at most
    /// [`super::Dims::logits_rows`] rows.
    Rows(&'a mut Vec<f32>),
    /// The most probable token after every row, appended to the vector; at most
    /// [`super::Dims::batch`] rows.
    ArgmaxRows(&'a mut Vec<u32>),
    /// Nothing: hidden states and logits stay on the GPU. They are for the last row, or
    /// for every row of at most [`super::Dims::logits_rows`].
    OnGpu {
        /// Whether to compute every row instead of only the last.
        every_row: bool,
    },
}

impl Output<'_> {
    /// Returns the rows that the head computes.
    pub(super) fn head(&self) -> HeadRows {
        match self {
            Output::None => HeadRows::None,
            Output::LastLogits(_) | Output::Argmax(_) | Output::OnGpu { every_row: false } => HeadRows::Last,
            Output::Rows(_) | Output::ArgmaxRows(_) | Output::OnGpu { every_row: true } => HeadRows::Every,
        }
    }

    pub(super) fn is_argmax(&self) -> bool {
        matches!(self, Output::Argmax(_) | Output::ArgmaxRows(_))
    }
}

/// The scores to read back. They are appended to a vector.
pub enum Scores<'a> {
    /// The log-probability of each target: one number per row is read back.
    Logprobs(&'a mut Vec<f32>),
    /// The log-probability and rank of each target, and the most probable token.
    Details(&'a mut Vec<TokenScore>),
}

impl Scores<'_> {
    /// Reborrows the vector, to score only part of the rows.
    pub fn reborrow(&mut self) -> Scores<'_> {
        match self {
            Scores::Logprobs(all) => Scores::Logprobs(all),
            Scores::Details(all) => Scores::Details(all),
        }
    }
}

/// Returns the error for a key or value that overflows f16. An append's tag is its layer.
#[must_use]
pub fn kv_overflow(found: KvOverflow) -> Error {
    let KvOverflow { tag, position, is_value } = found;
    Error::Overflow { layer: tag, position, what: if is_value { "value" } else { "key" } }
}

/// Returns the error for logits from which no token can be chosen.
#[must_use]
pub fn bad_logits() -> Error {
    Error::input(
        "the logits hold NaN or infinity, or all are minus infinity, since the model's values overflow f16: \
         try ModelOptions::kv_dtype = f32 and ModelOptions::dtype = f32",
    )
}
