//! Layer normalization of rows.

use super::candidate::{Candidate, Op};
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

/// The implementations. Per thread, workgroups are one vector of a software adapter at
/// its usual width. The others take one workgroup per row; rows of GPT-2 have 192 to 400
/// vec4.
pub static CANDIDATES: &[Candidate] = &[
    candidate(
        "per_thread",
        Strategy::PerThread,
        const { &[&LAYER_NORM_PER_THREAD] },
        &[("WORKGROUP_SIZE", 8)],
    )
    .preferred(1),
    candidate("workgroup_128", Strategy::Workgroup, const { &[&LAYER_NORM] }, &[("WORKGROUP_SIZE", 128)])
        .preferred(1),
    candidate("workgroup_256", Strategy::Workgroup, const { &[&LAYER_NORM] }, &[("WORKGROUP_SIZE", 256)]),
    candidate("subgroup_128", Strategy::Subgroup, const { &[&LAYER_NORM] }, &[("WORKGROUP_SIZE", 128)])
        .preferred(1),
    candidate("subgroup_256", Strategy::Subgroup, const { &[&LAYER_NORM] }, &[("WORKGROUP_SIZE", 256)]),
];

const fn candidate(
    name: &'static str,
    strategy: Strategy,
    kernels: &'static [&'static Kernel],
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    Candidate::new(Op::LayerNorm, name, strategy, kernels, constants)
}

/// The shaders' `LayerNormParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LayerNormParams {
    /// Features, without padding.
    pub n: u32,
    /// Row length divided by 4.
    pub stride4: u32,
    /// Added to the variance.
    pub epsilon: f32,
    /// Padding to 16 bytes.
    pub unused: u32,
}

/// Returns the variant of a candidate.
#[must_use]
pub fn variant(candidate: &Candidate) -> Variant {
    let mut fragments = vec![STEP, fragments::LAYER_NORM];
    if candidate.strategy != Strategy::PerThread {
        fragments.push(reduce(candidate.strategy));
    }
    candidate.variant(0, fragments, &[])
}

/// Layer normalization of the step's rows.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// The step: the number of rows, and the first of them in `x`.
    pub step: BoundBuffer<'a>,
    /// Features, without padding.
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
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &LayerNorm<'_>) -> Result<()> {
    let stride = pad_row(op.n);
    assert!(op.scale.bytes() >= (2 * stride * 4) as u64, "scale is too short");
    let params =
        LayerNormParams { n: op.n as u32, stride4: (stride / 4) as u32, epsilon: op.epsilon, unused: 0 };
    let group = match candidate.strategy {
        Strategy::PerThread => candidate.constant("WORKGROUP_SIZE"),
        Strategy::Workgroup | Strategy::Subgroup => 1,
    };
    let buffers = [op.step, op.x.into(), op.scale.into(), op.out.into()];
    recorder.dispatch(&variant(candidate), &params, &buffers, Grid::Line { per_row: 1, group })
}
