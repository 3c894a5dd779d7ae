//! Merges the partial results of [`super::attention_decode`].

use super::Attention;
use super::fragments::{ROWS_BATCH, SOFTMAX, WINDOW};
use super::paged::PAGE_SIZE;
use crate::error::Result;
use crate::gpu::{Binding, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};

static ATTENTION_REDUCE: Kernel = Kernel {
    name: "attention_reduce",
    source: include_str!("../../shaders/attention_reduce.wgsl"),
    bindings: &[Binding::uniform(0, "params"), Binding::read(2, "partial"), Binding::read_write(3, "out")],
};

const WORKGROUP_SIZE: u32 = 64;

/// The shader's `ReduceParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ReduceParams {
    /// Query heads.
    pub n_head: u32,
    /// Number of splits per head for which the partial results have space.
    pub max_splits: u32,
    /// Maximum positions of a split.
    pub split_keys: u32,
    /// Number of positions that a row sees; the largest u32 means all.
    pub window: u32,
}

/// Returns the variant for padded heads of `head_dim` elements.
#[must_use]
pub fn variant(head_dim: usize) -> Variant {
    Variant {
        kernel: &ATTENTION_REDUCE,
        strategy: Strategy::PerThread,
        fragments: vec![ROWS_BATCH, WINDOW, SOFTMAX],
        constants: vec![
            ("HEAD_DIM", head_dim as u32),
            ("PAGE_SIZE", PAGE_SIZE as u32),
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
        ],
    }
}

/// Records the merge into `op.out`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(
    recorder: &mut Recorder<'_>,
    op: &Attention<'_>,
    max_splits: usize,
    split_keys: usize,
    partial: &GpuBuffer,
) -> Result<()> {
    let params = ReduceParams {
        n_head: op.n_head as u32,
        max_splits: max_splits as u32,
        split_keys: split_keys as u32,
        window: op.window_or_all(),
    };
    let threads = (op.n_head * op.kv.head_dim / 4) as u32;
    // If there is a single split, decode has already written the result.
    let grid = Grid::Beyond { keys: split_keys as u32, groups: threads.div_ceil(WORKGROUP_SIZE) };
    let mut buffers = vec![partial.into(), op.out.into()];
    buffers.extend(op.rows.batch);
    recorder.dispatch(&variant(op.kv.head_dim), &params, &buffers, grid)
}
