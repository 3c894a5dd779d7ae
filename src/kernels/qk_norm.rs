//! RMS normalization of the heads of q and k, then their rotation, in place.

use super::StepRows;
use super::fragments::{self, STEP};
use super::step::Rows;
use crate::error::Result;
use crate::gpu::{Binding, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::pad_row;

static QK_NORM: Kernel = Kernel {
    name: "qk_norm",
    source: include_str!("../../shaders/qk_norm.wgsl"),
    bindings: &[
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "scale"),
        Binding::read_write(3, "qkv"),
    ],
};

/// Threads per head. It is one vector of a software adapter at its usual width, and on
/// GPUs four vec4 per thread at 128 elements. On lavapipe 25, a row of 24 heads of 128
/// elements takes 43 us. It takes 64 us with 32 threads per head, and 32 us with one
/// thread per head, but then the loads of a GPU would wait for one another.
const WORKGROUP_SIZE: u32 = 8;

/// The shader's `QkNormParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct QkNormParams {
    /// Query heads.
    pub n_head: u32,
    /// Query and key heads.
    pub n_normed: u32,
    /// Row length divided by 4.
    pub stride4: u32,
    /// Elements of a head without padding.
    pub n: u32,
    /// Added to the mean of the squares.
    pub epsilon: f32,
    /// Padding to 16 bytes.
    pub unused: [u32; 3],
}

/// Returns the variant for a padded head. `rotated` is the kind of rows if heads are
/// rotated.
#[must_use]
pub fn variant(head_dim: usize, rotated: Option<Rows>) -> Variant {
    let mut fragments = vec![STEP];
    fragments.extend(rotated.map(fragments::rows));
    fragments.push(fragments::rope(rotated.is_some()));
    Variant {
        kernel: &QK_NORM,
        strategy: Strategy::Workgroup,
        fragments,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE), ("HEAD_DIM", head_dim as u32)],
    }
}

/// RMS normalization of every q and k head of the step's rows over its elements, then
/// the rotation.
#[derive(Clone, Copy, Debug)]
pub struct QkNorm<'a> {
    /// The step's rows and their positions.
    pub rows: StepRows<'a>,
    /// `[n_rows, n_head + 2 n_kv_head, pad_row(head_dim)]`: q, k and v; v stays unchanged.
    pub qkv: &'a GpuBuffer,
    /// Query heads.
    pub n_head: usize,
    /// KV heads.
    pub n_kv_head: usize,
    /// Elements of a head without padding.
    pub head_dim: usize,
    /// Added to the mean of the squares.
    pub epsilon: f32,
    /// `[2, pad_row(head_dim)]`: the weight of q, then of k, padded with zeros.
    pub scale: &'a GpuBuffer,
    /// `[n_ctx, pad_row(head_dim) / 4]` vec4 of (cos, sin) of two pairs of adjacent
    /// elements, (1, 0) for pairs that are not rotated; `None` without rotation.
    pub rope: Option<&'a GpuBuffer>,
}

/// Records `op`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, op: &QkNorm<'_>) -> Result<()> {
    let head_dim = pad_row(op.head_dim);
    assert!(op.scale.bytes() >= (2 * head_dim * 4) as u64, "scale is too short");
    let n_normed = (op.n_head + op.n_kv_head) as u32;
    let params = QkNormParams {
        n_head: op.n_head as u32,
        n_normed,
        stride4: ((op.n_head + 2 * op.n_kv_head) * head_dim / 4) as u32,
        n: op.head_dim as u32,
        epsilon: op.epsilon,
        unused: [0; 3],
    };
    let mut buffers = vec![op.rows.step, op.scale.into(), op.qkv.into()];
    if let Some(rope) = op.rope {
        buffers.extend(op.rows.batch);
        buffers.push(rope.into());
    }
    let variant = variant(head_dim, op.rope.map(|_| op.rows.kind()));
    recorder.dispatch(&variant, &params, &buffers, Grid::Line { per_row: n_normed, group: 1 })
}
