//! Appends the keys and values of the step's rows to the paged cache.

use super::fragments::{self, KV_LAYOUT, STEP, kv_write, overflow, pack};
use super::kv_overflow::OverflowFlag;
use super::paged::{PAGE_SIZE, PagedKv};
use super::{Rows, StepRows};
use crate::error::Result;
use crate::gpu::{Binding, BoundBuffer, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static KV_APPEND: Kernel = Kernel {
    name: "kv_append",
    source: include_str!("../../shaders/kv_append.wgsl"),
    bindings: &[
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "qkv"),
        Binding::read(3, "page_table"),
    ],
};

const WORKGROUP_SIZE: u32 = 64;

/// The shader's `KvAppendParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct KvAppendParams {
    /// Query heads.
    pub n_head: u32,
    /// KV heads.
    pub n_kv_head: u32,
    /// Length of a row of `qkv` divided by 4.
    pub qkv_stride4: u32,
    /// [`OverflowFlag::tag`].
    pub tag: u32,
}

/// Returns the variant for a cache type, a padded head, a number of slabs and a kind of
/// rows. With `detect` it records f16 overflow.
#[must_use]
pub fn variant(dtype: DType, head_dim: usize, n_slabs: usize, rows: Rows, detect: bool) -> Variant {
    Variant {
        kernel: &KV_APPEND,
        strategy: Strategy::PerThread,
        fragments: vec![
            STEP,
            pack(dtype),
            fragments::rows(rows),
            KV_LAYOUT,
            overflow(detect),
            kv_write(n_slabs),
        ],
        constants: vec![
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
            ("HEAD_DIM", head_dim as u32),
            ("PAGE_SIZE", PAGE_SIZE as u32),
        ],
    }
}

/// An append of the step's rows.
#[derive(Clone, Copy, Debug)]
pub struct KvAppend<'a> {
    /// The step's rows and their positions.
    pub rows: StepRows<'a>,
    /// `[n_rows, n_head + 2 n_kv_head, head_dim]`: q, k, v
    pub qkv: &'a GpuBuffer,
    /// The layer's cache.
    pub kv: PagedKv<'a>,
    /// Query heads.
    pub n_head: usize,
    /// Buffers to bind in place of slabs that do not exist yet: [`super::SLABS_MAX`] - 2
    /// of them if the cache has more than one slab.
    pub spare_slabs: &'a [GpuBuffer],
    /// The flag that records values too large for f16. Only for f16 caches with overflow
    /// detection.
    pub overflow: Option<OverflowFlag<'a>>,
}

/// Records `op`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, op: &KvAppend<'_>) -> Result<()> {
    let KvAppend { kv, n_head, overflow, .. } = op;
    let params = KvAppendParams {
        n_head: *n_head as u32,
        n_kv_head: kv.n_kv_head as u32,
        qkv_stride4: kv.qkv_stride4(*n_head),
        tag: overflow.map_or(0, |flag| flag.tag as u32),
    };
    let mut buffers = vec![op.rows.step, op.qkv.into(), kv.page_table.into()];
    buffers.extend(overflow.map(|flag| BoundBuffer::from(flag.buffer)));
    buffers.extend(kv.write_bindings(op.spare_slabs));
    buffers.extend(op.rows.batch);
    let per_row = (2 * kv.n_kv_head * kv.head_dim / 8) as u32;
    let grid = Grid::Line { per_row, group: WORKGROUP_SIZE };
    let variant = variant(kv.dtype, kv.head_dim, kv.slabs.len(), op.rows.kind(), overflow.is_some());
    recorder.dispatch(&variant, &params, &buffers, grid)
}
