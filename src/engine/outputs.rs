//! Logits and hidden states that stay on the GPU, where the host program continues to
//! compute.

use std::sync::Arc;

use super::Session;
use super::bound::{Entered, enter_with};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, HostBuffer};
use crate::model::Output;

/// The tokens that outputs are computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputRows {
    /// Only the last one.
    Last,
    /// All of them, in several calls if needed.
    All,
}

/// The model's outputs for some tokens, on the device.
/// Both buffers hold f32 rows. Each row is padded to the stride: with zeros after hidden
/// states, with undefined values after logits. The buffers can be bound as read-only
/// storage and copied from. Work that the host program submits while it holds this value
/// reads these outputs. Later work of the engine does not affect it, because a queue
/// preserves the order of submits.
pub struct GpuOutputs<'a> {
    hidden: &'a GpuBuffer,
    logits: &'a GpuBuffer,
    gpu: &'a Gpu,
    first: usize,
    n_rows: usize,
    widths: [usize; 2],
    strides: [usize; 2],
}

impl GpuOutputs<'_> {
    /// The device, with the queue that the host program must submit its work to.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        self.gpu
    }

    /// The logits, `[n_rows, vocab_size]`. The stride is [`GpuOutputs::logits_stride`].
    #[must_use]
    pub fn logits(&self) -> &HostBuffer {
        self.logits.raw()
    }

    /// Number of f32 elements from one row of logits to the next.
    #[must_use]
    pub fn logits_stride(&self) -> usize {
        self.strides[1]
    }

    /// Number of f32 elements in a row of logits.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.widths[1]
    }

    /// The last hidden states, after the final norm, `[n_rows, n_embd]`. The stride is
    /// [`GpuOutputs::hidden_stride`].
    #[must_use]
    pub fn hidden(&self) -> &HostBuffer {
        self.hidden.raw()
    }

    /// Number of f32 elements from one row of hidden states to the next.
    #[must_use]
    pub fn hidden_stride(&self) -> usize {
        self.strides[0]
    }

    /// Number of f32 elements in a row of hidden states.
    #[must_use]
    pub fn n_embd(&self) -> usize {
        self.widths[0]
    }

    /// Number of rows, one per token.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The index of the first row's token among the added tokens.
    #[must_use]
    pub fn first_row(&self) -> usize {
        self.first
    }
}

impl Session {
    /// Adds tokens and passes their hidden states and logits on the GPU to `with`,
    /// without a readback. Calls `with` once for the last token, or once per piece of
    /// rows, in order.
    ///
    /// The engine is locked during `with`, which submits its work to [`Gpu::queue`] and
    /// returns. Using this engine inside `with` would deadlock.
    ///
    /// # Errors
    /// As [`Session::advance`], and the errors that `with` returns. The session then holds
    /// the tokens of the calls that were made.
    pub fn advance_on_gpu(
        &mut self,
        tokens: &[u32],
        rows: OutputRows,
        mut with: impl FnMut(&GpuOutputs<'_>) -> Result<()>,
    ) -> Result<()> {
        if rows == OutputRows::Last {
            let last = self.advance_but_last_chunk(tokens)?;
            return self.run_on_gpu(last, tokens.len() - 1, false, &mut with);
        }
        self.check(tokens)?;
        let most = self.shared.logits_rows();
        tokens
            .chunks(most)
            .enumerate()
            .try_for_each(|(i, piece)| self.run_on_gpu(piece, i * most, true, &mut with))
    }

    fn run_on_gpu(
        &mut self,
        tokens: &[u32],
        first: usize,
        every_row: bool,
        with: &mut dyn FnMut(&GpuOutputs<'_>) -> Result<()>,
    ) -> Result<()> {
        self.check_cancel()?;
        let shared = Arc::clone(&self.shared);
        let Entered { mut forward, bound } = enter_with(&shared, &mut [self])?;
        let position = self.tokens.len();
        let output = Output::OnGpu { every_row };
        if let Err(error) = forward.run(&bound.model, &mut self.pages, tokens, position, output) {
            self.drop_unused_pages(&mut forward);
            return Err(error);
        }
        // The tokens are added before the call, because `with` may panic.
        self.tokens.extend_from_slice(tokens);
        let config = &bound.model.config;
        let [hidden, logits] = forward.outputs();
        with(&GpuOutputs {
            hidden,
            logits,
            gpu: &bound.model.gpu,
            first,
            n_rows: if every_row { tokens.len() } else { 1 },
            widths: [config.n_embd, config.vocab_size],
            strides: [config.embd().padded_len(), config.vocab().padded_len()],
        })
    }
}
