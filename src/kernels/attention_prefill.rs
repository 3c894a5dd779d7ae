//! Causal attention of many rows: prefill, and decode where results must not
//! depend on the number of rows.

use super::fragments::{ATTENTION, KV_LAYOUT, SOFTMAX, STEP, kv_read, pack};
use super::paged::{PAGE_SIZE, PagedKv};
use crate::error::Result;
use crate::gpu::{Binding, BoundBuffer, Extent, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static ATTENTION_PREFILL: Kernel = Kernel {
    name: "attention_prefill",
    source: include_str!("../../shaders/attention_prefill.wgsl"),
    bindings: &[Binding::read_write(4, "out")],
};

static ATTENTION_PREFILL_PER_THREAD: Kernel = Kernel {
    name: "attention_prefill_per_thread",
    source: include_str!("../../shaders/attention_prefill_per_thread.wgsl"),
    bindings: &[Binding::read_write(4, "out")],
};

/// Rows of a workgroup; the shader's ROWS.
const ROWS: u32 = 16;
/// One vector of a software adapter at its usual width.
const PER_THREAD_WORKGROUP_SIZE: u32 = 8;

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
    /// Room for partial results of a head in the decode kernels.
    pub max_splits: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 3],
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
    /// `[n_rows, n_head, head_dim]`
    pub out: &'a GpuBuffer,
}

impl Attention<'_> {
    pub(super) fn params(&self, max_splits: usize) -> AttentionParams {
        let width = self.kv.n_head * self.kv.head_dim;
        AttentionParams {
            n_head: self.kv.n_head as u32,
            qkv_stride4: (3 * width / 4) as u32,
            out_stride4: (width / 4) as u32,
            scale: self.scale,
            max_splits: max_splits as u32,
            unused: [0; 3],
        }
    }
}

/// The variant for a strategy, a cache type, a padded head and a number of slabs.
#[must_use]
pub fn variant(strategy: Strategy, dtype: DType, head_dim: usize, n_slabs: usize) -> Variant {
    let fragments = vec![STEP, pack(dtype), SOFTMAX, KV_LAYOUT, kv_read(n_slabs), ATTENTION];
    let mut constants = vec![("HEAD_DIM", head_dim as u32), ("PAGE_SIZE", PAGE_SIZE as u32)];
    let (kernel, strategy) = match strategy {
        Strategy::PerThread => {
            constants.push(("WORKGROUP_SIZE", PER_THREAD_WORKGROUP_SIZE));
            (&ATTENTION_PREFILL_PER_THREAD, strategy)
        }
        // The tiled kernel has no reduction: subgroups have the same one.
        Strategy::Workgroup | Strategy::Subgroup => (&ATTENTION_PREFILL, Strategy::Workgroup),
    };
    Variant { kernel, strategy, fragments, constants }
}

/// Records `op`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, strategy: Strategy, op: &Attention<'_>) -> Result<()> {
    let kv = &op.kv;
    let mut buffers = vec![op.step, op.qkv.into(), kv.page_table.into(), op.out.into()];
    buffers.extend(kv.read_bindings());
    let rows = match strategy {
        Strategy::PerThread => PER_THREAD_WORKGROUP_SIZE,
        Strategy::Workgroup | Strategy::Subgroup => ROWS,
    };
    let grid = Grid::Plane(Extent::PerRows(rows), Extent::Fixed(kv.n_head as u32));
    recorder.dispatch(
        &variant(strategy, kv.dtype, kv.head_dim, kv.slabs.len()),
        &op.params(0),
        &buffers,
        grid,
    )
}
