//! Logits and hidden states that stay on the GPU, for a host that computes on.

use std::sync::Arc;

use super::Session;
use super::bound::{Entered, enter_with};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer};
use crate::model::Output;

/// Of which tokens outputs are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputRows {
    /// The last one alone.
    Last,
    /// All, some at a time.
    All,
}

/// What the model computed behind some tokens, on the device.
///
/// Both buffers hold f32 rows; a row is followed by padding up to the stride, which is
/// zero behind hidden states and without meaning behind logits. They can be bound as
/// read-only storage and copied from. Work that the host submits while it holds this
/// reads these values, whatever the engine does next: a queue keeps its order.
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
    /// The device, for bind groups and encoders of the host's, and the queue that its
    /// work must go to.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        self.gpu
    }

    /// The logits, `[n_rows, vocab_size]`, rows [`GpuOutputs::logits_stride`] apart;
    /// [`GpuBuffer::raw`] is the `wgpu::Buffer`.
    #[must_use]
    pub fn logits(&self) -> &GpuBuffer {
        self.logits
    }

    /// f32 elements from one row of logits to the next.
    #[must_use]
    pub fn logits_stride(&self) -> usize {
        self.strides[1]
    }

    /// f32 elements of a row of logits.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.widths[1]
    }

    /// The last hidden states, behind the final norm, `[n_rows, n_embd]`, rows
    /// [`GpuOutputs::hidden_stride`] apart.
    #[must_use]
    pub fn hidden(&self) -> &GpuBuffer {
        self.hidden
    }

    /// f32 elements from one row of hidden states to the next.
    #[must_use]
    pub fn hidden_stride(&self) -> usize {
        self.strides[0]
    }

    /// f32 elements of a row of hidden states.
    #[must_use]
    pub fn n_embd(&self) -> usize {
        self.widths[0]
    }

    /// Rows, a token each.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The place of the first row's token among those that were added.
    #[must_use]
    pub fn first_row(&self) -> usize {
        self.first
    }
}

impl Session {
    /// Adds tokens and hands hidden states and logits to `with` where they lie, without
    /// a readback: once for the last token, or a call for each piece of rows, in order.
    ///
    /// The engine is locked meanwhile: `with` submits its work to
    /// [`Gpu::queue`] and returns; using this engine in it would wait for ever.
    ///
    /// # Errors
    /// As [`Session::advance`], and what `with` returns; the session then holds the
    /// tokens of the calls that were made.
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
        if let Err(error) = forward.run(&bound.gpu, &bound.model, &mut self.pages, tokens, position, output) {
            self.pages.truncate(forward.cache(), position);
            return Err(error);
        }
        // Before the call: `with` may panic.
        self.tokens.extend_from_slice(tokens);
        let config = &bound.model.config;
        let [hidden, logits] = forward.outputs();
        with(&GpuOutputs {
            hidden,
            logits,
            gpu: &bound.gpu,
            first,
            n_rows: if every_row { tokens.len() } else { 1 },
            widths: [config.n_embd, config.vocab_size],
            strides: [config.embd().padded_len(), config.vocab().padded_len()],
        })
    }
}
