//! Layer normalization of rows.

use super::fragments::{self, STEP, reduce};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::pad_row;

static LAYER_NORM: Kernel =
    Kernel { name: "layer_norm", source: include_str!("../../shaders/layer_norm.wgsl"), bindings: &[] };

static LAYER_NORM_PER_THREAD: Kernel = Kernel {
    name: "layer_norm_per_thread",
    source: include_str!("../../shaders/layer_norm_per_thread.wgsl"),
    bindings: &[],
};

/// Threads of a row: GPT-2's rows have 192 to 400 vec4.
const WORKGROUP_SIZE: u32 = 128;
/// One vector of a software adapter at its usual width.
const PER_THREAD_WORKGROUP_SIZE: u32 = 8;

/// The shaders' `LayerNormParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LayerNormParams {
    /// Features.
    pub n: u32,
    /// Row length divided by 4.
    pub stride4: u32,
    /// Added to the variance.
    pub epsilon: f32,
    /// Padding to 16 bytes.
    pub unused: u32,
}

/// The variant for a strategy.
#[must_use]
pub fn variant(strategy: Strategy) -> Variant {
    let (kernel, fragments, size) = match strategy {
        Strategy::PerThread => {
            (&LAYER_NORM_PER_THREAD, vec![STEP, fragments::LAYER_NORM], PER_THREAD_WORKGROUP_SIZE)
        }
        Strategy::Workgroup | Strategy::Subgroup => {
            (&LAYER_NORM, vec![STEP, fragments::LAYER_NORM, reduce(strategy)], WORKGROUP_SIZE)
        }
    };
    Variant { kernel, strategy, fragments, constants: vec![("WORKGROUP_SIZE", size)] }
}

/// Layer normalization of the step's rows.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// The step: rows, and the first of them in `x`.
    pub step: BoundBuffer<'a>,
    /// Features.
    pub n: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// `[first_row + n_rows, pad_row(n)]`
    pub x: &'a GpuBuffer,
    /// `[2, pad_row(n)]`: weight, then bias.
    pub scale: &'a GpuBuffer,
    /// `[n_rows, pad_row(n)]`
    pub out: &'a GpuBuffer,
}

/// Records `op`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, strategy: Strategy, op: &LayerNorm<'_>) -> Result<()> {
    let stride = pad_row(op.n);
    assert!(op.scale.bytes() >= (2 * stride * 4) as u64, "scale is too short");
    let params =
        LayerNormParams { n: op.n as u32, stride4: (stride / 4) as u32, epsilon: op.epsilon, unused: 0 };
    let group = match strategy {
        Strategy::PerThread => PER_THREAD_WORKGROUP_SIZE,
        Strategy::Workgroup | Strategy::Subgroup => 1,
    };
    let buffers = [op.step, op.x.into(), op.scale.into(), op.out.into()];
    recorder.dispatch(&variant(strategy), &params, &buffers, Grid::Line { per_row: 1, group })
}
