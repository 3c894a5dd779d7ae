//! What a pass brings back.

use super::recordings::HeadRows;
use crate::error::Error;
use crate::kernels::KvOverflow;
use crate::kernels::score::TokenScore;

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
    /// Nothing: hidden states and logits stay on the GPU, of the last row, or of every
    /// row, at most [`super::Dims::logits_rows`].
    OnGpu {
        /// Whether of every row.
        every_row: bool,
    },
}

impl Output<'_> {
    /// The rows that the head works on.
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

/// What scores are to be brought back; they go behind what is there.
pub enum Scores<'a> {
    /// The log-probability of each target: one number a row is read back.
    Logprobs(&'a mut Vec<f32>),
    /// With its rank and the most probable token.
    Details(&'a mut Vec<TokenScore>),
}

impl Scores<'_> {
    /// The same for a part of the rows.
    pub fn reborrow(&mut self) -> Scores<'_> {
        match self {
            Scores::Logprobs(all) => Scores::Logprobs(all),
            Scores::Details(all) => Scores::Details(all),
        }
    }
}

/// The error for a key or a value that f16 cannot hold; appends are tagged with their
/// layers.
#[must_use]
pub fn kv_overflow(found: KvOverflow) -> Error {
    let KvOverflow { tag, position, is_value } = found;
    Error::Overflow { layer: tag, position, what: if is_value { "value" } else { "key" } }
}

/// The error for logits that no token can be chosen from.
#[must_use]
pub fn bad_logits() -> Error {
    Error::input(
        "the logits hold NaN or infinity, or all are minus infinity: the model's values overflow f16; try \
         --kv-dtype f32 and --dtype f32",
    )
}
