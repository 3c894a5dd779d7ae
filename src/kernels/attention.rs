//! What the attention kernels share.

use super::attention_decode;
use super::candidate::{Candidate, Op};
use super::fragments::{self, ATTENTION, KV_LAYOUT, SOFTMAX, STEP, kv_read, load4, pack_for_reading};
use super::paged::{PAGE_SIZE, PagedKv};
use super::step::{Rows, StepRows};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Grid, Recorder, Strategy, Variant};
use crate::tensor::DType;

/// The shaders' `AttentionParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttentionParams {
    /// Heads.
    pub n_head: u32,
    /// Length of a row of `qkv` divided by 4.
    pub qkv_stride4: u32,
    /// Length of a row of `out` divided by 4.
    pub out_stride4: u32,
    /// Factor of q·k.
    pub scale: f32,
    /// Room for partial results of a head in the split decode kernel.
    pub max_splits: u32,
    /// Length of a head divided by 8.
    pub packs: u32,
    /// Positions that the per-thread kernels' scores have room for.
    pub score_keys: u32,
    /// Rows that the per-thread kernels' scores have room for.
    pub score_rows: u32,
}

/// Attention of the step's rows over the cache, their own keys included.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// The step's rows: a chunk for prefill, a batch for decode.
    pub rows: StepRows<'a>,
    /// `[n_rows, 3, n_head, head_dim]`
    pub qkv: &'a GpuBuffer,
    /// The layer's cache.
    pub kv: PagedKv<'a>,
    /// Factor of q·k.
    pub scale: f32,
    /// Room for what passes between kernels.
    pub scratch: Scratch<'a>,
    /// `[n_rows, n_head, head_dim]`
    pub out: &'a GpuBuffer,
}

/// Room for what passes between the kernels of one attention: partial results
/// of splits, or scores.
#[derive(Clone, Copy, Debug)]
pub struct Scratch<'a> {
    /// [`Scratch::elems`] f32.
    pub buffer: &'a GpuBuffer,
    /// Longest context.
    pub n_ctx: usize,
    /// Most rows of a step.
    pub max_rows: usize,
}

impl Scratch<'_> {
    /// Elements that an implementation of prefill or decode needs: scores of
    /// every position where it passes them through a buffer, partial results
    /// where it splits.
    #[must_use]
    pub fn elems(
        candidate: &Candidate,
        n_ctx: usize,
        max_rows: usize,
        n_head: usize,
        head_dim: usize,
    ) -> usize {
        let scores = n_head * n_ctx.next_multiple_of(PAGE_SIZE);
        match (candidate.op, candidate.strategy) {
            (_, Strategy::PerThread) => scores * max_rows,
            (Op::AttentionDecode, _) => {
                let splits = attention_decode::max_splits(candidate, n_ctx);
                max_rows * n_head * splits * (head_dim + 4)
            }
            _ => 0,
        }
    }
}

/// The variant of a candidate's shader number `index` with the fragments and
/// constants that every attention kernel has.
pub(super) fn variant(
    candidate: &Candidate,
    index: usize,
    rows: Rows,
    dtype: DType,
    head_dim: usize,
    n_slabs: usize,
) -> Variant {
    let wide = candidate.is_wide();
    let fragments = vec![
        STEP,
        pack_for_reading(dtype, wide),
        load4(wide),
        fragments::rows(rows),
        SOFTMAX,
        KV_LAYOUT,
        kv_read(n_slabs),
        ATTENTION,
    ];
    let constants = [("HEAD_DIM", head_dim as u32), ("PAGE_SIZE", PAGE_SIZE as u32)];
    candidate.variant(index, fragments, &constants)
}

impl Attention<'_> {
    /// Records one of the kernels: the shared inputs, `outputs`, the cache;
    /// `max_splits` is the room for partial results of a head.
    pub(super) fn dispatch(
        &self,
        recorder: &mut Recorder<'_>,
        variant: &Variant,
        max_splits: usize,
        outputs: &[BoundBuffer<'_>],
        grid: Grid,
    ) -> Result<()> {
        let inputs = [self.rows.step, self.qkv.into(), self.kv.page_table.into()];
        let mut buffers = [&inputs[..], outputs, &self.kv.read_bindings()].concat();
        buffers.extend(self.rows.batch);
        recorder.dispatch(variant, &self.params(max_splits), &buffers, grid)
    }

    fn params(&self, max_splits: usize) -> AttentionParams {
        let Scratch { n_ctx, max_rows, .. } = self.scratch;
        let width = self.kv.n_head * self.kv.head_dim;
        AttentionParams {
            n_head: self.kv.n_head as u32,
            qkv_stride4: (3 * width / 4) as u32,
            out_stride4: (width / 4) as u32,
            scale: self.scale,
            max_splits: max_splits as u32,
            packs: (self.kv.head_dim / 8) as u32,
            score_keys: n_ctx.next_multiple_of(PAGE_SIZE) as u32,
            score_rows: max_rows as u32,
        }
    }

    /// Checks the scratch's size for `candidate`.
    pub(super) fn check(&self, candidate: &Candidate) {
        let Scratch { buffer, n_ctx, max_rows } = self.scratch;
        let elems = Scratch::elems(candidate, n_ctx, max_rows, self.kv.n_head, self.kv.head_dim);
        assert!(buffer.bytes() >= elems as u64 * 4, "attention's scratch is too small");
    }
}
