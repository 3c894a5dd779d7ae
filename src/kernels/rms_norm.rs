//! RMS normalization of rows.

use super::candidate::{Candidate, Op};
use super::fragments::{self, STEP, reduce};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::pad_row;

static RMS_NORM: Kernel =
    Kernel { name: "rms_norm", source: include_str!("../../shaders/rms_norm.wgsl"), bindings: &[] };

static RMS_NORM_PER_THREAD: Kernel = Kernel {
    name: "rms_norm_per_thread",
    source: include_str!("../../shaders/rms_norm_per_thread.wgsl"),
    bindings: &[],
};

/// The implementations: as in [`super::layer_norm`], for the same reasons. Rows of the
/// models have 144 to 1280 vec4.
pub static CANDIDATES: &[Candidate] = &[
    candidate("per_thread", Strategy::PerThread, const { &[&RMS_NORM_PER_THREAD] }, &[("WORKGROUP_SIZE", 8)])
        .preferred(1),
    candidate("workgroup_128", Strategy::Workgroup, const { &[&RMS_NORM] }, &[("WORKGROUP_SIZE", 128)])
        .preferred(1),
    candidate("workgroup_256", Strategy::Workgroup, const { &[&RMS_NORM] }, &[("WORKGROUP_SIZE", 256)]),
    candidate("subgroup_128", Strategy::Subgroup, const { &[&RMS_NORM] }, &[("WORKGROUP_SIZE", 128)])
        .preferred(1),
    candidate("subgroup_256", Strategy::Subgroup, const { &[&RMS_NORM] }, &[("WORKGROUP_SIZE", 256)]),
];

const fn candidate(
    name: &'static str,
    strategy: Strategy,
    kernels: &'static [&'static Kernel],
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    Candidate::new(Op::RmsNorm, name, strategy, kernels, constants)
}

/// The shaders' `RmsNormParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RmsNormParams {
    /// Features, without padding.
    pub n: u32,
    /// Row length divided by 4.
    pub stride4: u32,
    /// Added to the mean of the squares.
    pub epsilon: f32,
    /// 1 if the result is added to the output buffer.
    pub accumulate: u32,
}

/// Returns the variant of a candidate.
#[must_use]
pub fn variant(candidate: &Candidate) -> Variant {
    let mut fragments = vec![STEP, fragments::RMS_NORM];
    if candidate.strategy != Strategy::PerThread {
        fragments.push(reduce(candidate.strategy));
    }
    candidate.variant(0, fragments, &[])
}

/// RMS normalization of the step's rows.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// The step: the number of rows, and the first of them in `x`.
    pub step: BoundBuffer<'a>,
    /// Features, without padding.
    pub n: usize,
    /// Added to the mean of the squares.
    pub epsilon: f32,
    /// `[first_row + n_rows, pad_row(n)]`; not the same buffer as `out`.
    pub x: &'a GpuBuffer,
    /// `[pad_row(n)]`: the weight, padded with zeros.
    pub scale: &'a GpuBuffer,
    /// Whether to add to `out`: for a norm after a branch of the residual connection.
    pub accumulate: bool,
    /// `[n_rows, pad_row(n)]`
    pub out: &'a GpuBuffer,
}

/// Records `op`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &RmsNorm<'_>) -> Result<()> {
    let stride = pad_row(op.n);
    assert!(op.scale.bytes() >= (stride * 4) as u64, "scale is too short");
    let params = RmsNormParams {
        n: op.n as u32,
        stride4: (stride / 4) as u32,
        epsilon: op.epsilon,
        accumulate: u32::from(op.accumulate),
    };
    let group = match candidate.strategy {
        Strategy::PerThread => candidate.constant("WORKGROUP_SIZE"),
        Strategy::Workgroup | Strategy::Subgroup => 1,
    };
    let buffers = [op.step, op.x.into(), op.scale.into(), op.out.into()];
    recorder.dispatch(&variant(candidate), &params, &buffers, Grid::Line { per_row: 1, group })
}
