//! What the attention kernels share.

use super::attention_decode;
use super::fragments::{ATTENTION, KV_LAYOUT, SOFTMAX, STEP, kv_read, pack};
use super::paged::{PAGE_SIZE, PagedKv};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
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
    /// The step: rows, first position, positions in the cache.
    pub step: BoundBuffer<'a>,
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
    /// Elements that the kernels of a strategy need, for decode and prefill.
    #[must_use]
    pub fn elems(strategy: Strategy, n_ctx: usize, max_rows: usize, n_head: usize, head_dim: usize) -> usize {
        match strategy {
            Strategy::PerThread => n_head * n_ctx.next_multiple_of(PAGE_SIZE) * max_rows,
            Strategy::Workgroup | Strategy::Subgroup => {
                n_head * attention_decode::max_splits(n_ctx) * (head_dim + 4)
            }
        }
    }
}

/// One vector of a software adapter at its usual width.
pub(super) const PER_THREAD_WORKGROUP_SIZE: u32 = 8;

/// A variant with the fragments and constants that every attention kernel has.
pub(super) fn variant(
    kernel: &'static Kernel,
    strategy: Strategy,
    dtype: DType,
    head_dim: usize,
    n_slabs: usize,
) -> Variant {
    Variant {
        kernel,
        strategy,
        fragments: vec![STEP, pack(dtype), SOFTMAX, KV_LAYOUT, kv_read(n_slabs), ATTENTION],
        constants: vec![("HEAD_DIM", head_dim as u32), ("PAGE_SIZE", PAGE_SIZE as u32)],
    }
}

impl Attention<'_> {
    /// Records one of the kernels: the shared inputs, `outputs`, the cache.
    pub(super) fn dispatch(
        &self,
        recorder: &mut Recorder<'_>,
        variant: &Variant,
        outputs: &[BoundBuffer<'_>],
        grid: Grid,
    ) -> Result<()> {
        let inputs = [self.step, self.qkv.into(), self.kv.page_table.into()];
        let buffers = [&inputs[..], outputs, &self.kv.read_bindings()].concat();
        recorder.dispatch(variant, &self.params(), &buffers, grid)
    }

    pub(super) fn params(&self) -> AttentionParams {
        let Scratch { n_ctx, max_rows, .. } = self.scratch;
        let width = self.kv.n_head * self.kv.head_dim;
        AttentionParams {
            n_head: self.kv.n_head as u32,
            qkv_stride4: (3 * width / 4) as u32,
            out_stride4: (width / 4) as u32,
            scale: self.scale,
            max_splits: attention_decode::max_splits(n_ctx) as u32,
            packs: (self.kv.head_dim / 8) as u32,
            score_keys: n_ctx.next_multiple_of(PAGE_SIZE) as u32,
            score_rows: max_rows as u32,
        }
    }

    /// Checks the scratch's size for `strategy`.
    pub(super) fn check(&self, strategy: Strategy) {
        let Scratch { buffer, n_ctx, max_rows } = self.scratch;
        let elems = Scratch::elems(strategy, n_ctx, max_rows, self.kv.n_head, self.kv.head_dim);
        assert!(buffer.bytes() >= elems as u64 * 4, "attention's scratch is too small");
    }
}
