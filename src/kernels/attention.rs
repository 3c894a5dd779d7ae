//! Definitions shared by the attention kernels.

use super::candidate::{Candidate, Op};
use super::fragments::{
    self, ATTENTION, KV_LAYOUT, SOFT_CAP, SOFTMAX, STEP, WINDOW, kv_read, load4, pack_for_reading,
};
use super::paged::{PAGE_SIZE, PagedKv};
use super::step::{Rows, StepRows};
use super::{attention_decode, attention_prefill};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Grid, Recorder, Strategy, Variant};
use crate::tensor::DType;

/// The shaders' `AttentionParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttentionParams {
    /// Query heads.
    pub n_head: u32,
    /// KV heads.
    pub n_kv_head: u32,
    /// Query heads that share one KV head.
    pub group: u32,
    /// Length of a row of `qkv` divided by 4.
    pub qkv_stride4: u32,
    /// Length of a row of `out` divided by 4.
    pub out_stride4: u32,
    /// Scale of q·k.
    pub scale: f32,
    /// Bound of the scores; 0 for no bound.
    pub soft_cap: f32,
    /// Number of positions that a row sees; the largest u32 means all.
    pub window: u32,
    /// Length of a head divided by 8.
    pub packs: u32,
    /// Number of splits per head for which the decode kernels' partial results have
    /// space.
    pub max_splits: u32,
    /// Positions per item in the score buffer of the per-thread kernels.
    pub score_keys: u32,
    /// Items per KV head in that buffer: the maximum rows of a step times `group`.
    pub score_items: u32,
}

/// Attention of the step's rows over the cache, which already includes their own keys.
/// Query heads share KV heads in groups of `n_head / n_kv_head` consecutive heads
/// (grouped-query attention: Ainslie et al. 2023; with a single KV head, multi-query:
/// Shazeer 2019).
///
/// A row sees the keys up to its own position; with a window, only the last `window` of
/// them. Other keys are not read. If no row of the step sees a key of a page, the page
/// may belong to another session, and its entry in the page table may be arbitrary.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// The step's rows: a chunk for prefill, a batch for decode.
    pub rows: StepRows<'a>,
    /// `[n_rows, n_head + 2 n_kv_head, head_dim]`: q, k, v
    pub qkv: &'a GpuBuffer,
    /// The layer's cache.
    pub kv: PagedKv<'a>,
    /// Query heads: a multiple of the KV heads.
    pub n_head: usize,
    /// Scale of q·k.
    pub scale: f32,
    /// Scores become `soft_cap * tanh(score / soft_cap)`.
    pub soft_cap: Option<f32>,
    /// Number of positions that a row sees, including its own, at least 1; `None` for
    /// all.
    pub window: Option<usize>,
    /// Memory for values that pass between kernels.
    pub scratch: Scratch<'a>,
    /// `[n_rows, n_head, head_dim]`
    pub out: &'a GpuBuffer,
}

/// Memory for values that pass between the kernels of one attention: partial results of
/// splits, or scores.
#[derive(Clone, Copy, Debug)]
pub struct Scratch<'a> {
    /// [`Scratch::elems`] f32 values.
    pub buffer: &'a GpuBuffer,
    /// Longest context, in positions.
    pub n_ctx: usize,
    /// Maximum rows of a step.
    pub max_rows: usize,
}

/// The dimensions that determine the size of a [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_head: usize,
    /// KV heads, a divisor of `n_head`.
    pub n_kv_head: usize,
    /// Elements of a head with padding.
    pub head_dim: usize,
    /// Number of positions that a row sees; `None` for all.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// Returns the number of query heads that share one KV head.
    pub(super) fn group(&self) -> usize {
        self.n_head / self.n_kv_head
    }
}

impl Scratch<'_> {
    /// Returns the number of elements that an implementation of prefill or decode needs.
    /// An implementation that passes scores through a buffer needs the scores of every
    /// position that a workgroup's rows see. One that splits needs the partial results. A
    /// window never increases the number.
    #[must_use]
    pub fn elems(candidate: &Candidate, n_ctx: usize, max_rows: usize, shape: AttentionShape) -> usize {
        let per_row = match (candidate.op, candidate.strategy) {
            (Op::AttentionDecode, _) => {
                attention_decode::max_splits(candidate, n_ctx, shape) * (shape.head_dim + 4)
            }
            (_, Strategy::PerThread) => attention_prefill::score_keys(candidate, n_ctx, shape.window),
            _ => 0,
        };
        max_rows * shape.n_head * per_row
    }
}

/// The properties on which the variants of an attention kernel depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionForm {
    /// Element type of the cache.
    pub dtype: DType,
    /// Elements of a head with padding.
    pub head_dim: usize,
    /// Query heads that share one KV head.
    pub group: usize,
    /// Buffers of pages.
    pub n_slabs: usize,
    /// Whether scores are capped.
    pub soft_cap: bool,
}

/// Returns the variant of the candidate's shader with number `index`. It has the
/// fragments and constants that every attention kernel needs. One load takes `kv_by`
/// values of the cache: 8 or 4.
pub(super) fn variant(
    candidate: &Candidate,
    index: usize,
    rows: Rows,
    form: AttentionForm,
    kv_by: usize,
) -> Variant {
    let wide = candidate.is_wide();
    let fragments = vec![
        STEP,
        pack_for_reading(form.dtype, wide),
        load4(wide),
        fragments::rows(rows),
        SOFTMAX,
        KV_LAYOUT,
        fragments::kv_by(kv_by, form.dtype, wide),
        kv_read(form.n_slabs),
        WINDOW,
        SOFT_CAP,
        ATTENTION,
    ];
    let constants = [
        ("HEAD_DIM", form.head_dim as u32),
        ("PAGE_SIZE", PAGE_SIZE as u32),
        ("CAPPED", u32::from(form.soft_cap)),
    ];
    candidate.variant(index, fragments, &constants)
}

impl Attention<'_> {
    /// Returns the properties on which its variants depend.
    pub(super) fn form(&self) -> AttentionForm {
        AttentionForm {
            dtype: self.kv.dtype,
            head_dim: self.kv.head_dim,
            group: self.shape().group(),
            n_slabs: self.kv.slabs.len(),
            soft_cap: self.soft_cap.is_some(),
        }
    }

    pub(super) fn shape(&self) -> AttentionShape {
        let PagedKv { n_kv_head, head_dim, .. } = self.kv;
        AttentionShape { n_head: self.n_head, n_kv_head, head_dim, window: self.window }
    }

    /// Returns the window as the shaders encode it: the largest u32 for no window.
    pub(super) fn window_or_all(&self) -> u32 {
        self.window.map_or(u32::MAX, |window| window as u32)
    }

    /// Records one of the kernels with the shared inputs, `outputs` and the cache. There
    /// is space for `max_splits` splits per head and for `score_keys` positions per item.
    pub(super) fn dispatch(
        &self,
        recorder: &mut Recorder<'_>,
        variant: &Variant,
        [max_splits, score_keys]: [usize; 2],
        outputs: &[BoundBuffer<'_>],
        grid: Grid,
    ) -> Result<()> {
        let group = self.shape().group();
        let params = AttentionParams {
            n_head: self.n_head as u32,
            n_kv_head: self.kv.n_kv_head as u32,
            group: group as u32,
            qkv_stride4: self.kv.qkv_stride4(self.n_head),
            out_stride4: (self.n_head * self.kv.head_dim / 4) as u32,
            scale: self.scale,
            soft_cap: self.soft_cap.unwrap_or(0.0),
            window: self.window_or_all(),
            packs: (self.kv.head_dim / 8) as u32,
            max_splits: max_splits as u32,
            score_keys: score_keys as u32,
            score_items: (self.scratch.max_rows * group) as u32,
        };
        let inputs = [self.rows.step, self.qkv.into(), self.kv.page_table.into()];
        let mut buffers = [&inputs[..], outputs, &self.kv.read_bindings()].concat();
        buffers.extend(self.rows.batch);
        recorder.dispatch(variant, &params, &buffers, grid)
    }

    /// Checks the heads, the window, and the scratch's size for `candidate`.
    pub(super) fn check(&self, candidate: &Candidate) {
        let Scratch { buffer, n_ctx, max_rows } = self.scratch;
        let n_kv_head = self.kv.n_kv_head;
        assert!(
            n_kv_head > 0 && self.n_head.is_multiple_of(n_kv_head),
            "{} heads cannot share {n_kv_head} heads of k and v",
            self.n_head
        );
        assert_ne!(self.window, Some(0), "a window of attention contains at least the row's own position");
        let elems = Scratch::elems(candidate, n_ctx, max_rows, self.shape());
        assert!(buffer.bytes() >= elems as u64 * 4, "attention's scratch is too small");
    }
}
