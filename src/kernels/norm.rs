//! Normalization of rows: layer norm or RMS norm.

use super::candidate::{Candidate, Choices, Op};
use super::fragments::{NORM, STEP, reduce};
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

static RMS_NORM: Kernel =
    Kernel { name: "rms_norm", source: include_str!("../../shaders/rms_norm.wgsl"), bindings: &[] };

static RMS_NORM_PER_THREAD: Kernel = Kernel {
    name: "rms_norm_per_thread",
    source: include_str!("../../shaders/rms_norm_per_thread.wgsl"),
    bindings: &[],
};

/// The form of a normalization. Each form is an [`Op`], with and without a projection
/// after it, because devices may prefer different implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormForm {
    /// Layer normalization (Ba, Kiros and Hinton 2016): mean 0, variance 1, then weight
    /// and bias.
    Layer,
    /// RMS normalization (Zhang and Sennrich 2019): mean square 1, then the weight.
    Rms,
}

impl NormForm {
    /// Both forms.
    pub const ALL: [NormForm; 2] = [NormForm::Layer, NormForm::Rms];

    /// Returns the operation of the norm without a projection.
    #[must_use]
    pub const fn op(self) -> Op {
        match self {
            NormForm::Layer => Op::LayerNorm,
            NormForm::Rms => Op::RmsNorm,
        }
    }

    /// Returns the operation of the norm followed by a projection.
    #[must_use]
    pub const fn gemv_op(self) -> Op {
        match self {
            NormForm::Layer => Op::NormGemv,
            NormForm::Rms => Op::RmsGemv,
        }
    }

    /// Returns the vectors of `n` elements in its scale: weight and bias, or the weight.
    #[must_use]
    pub const fn n_vectors(self) -> usize {
        match self {
            NormForm::Layer => 2,
            NormForm::Rms => 1,
        }
    }
}

/// The implementations of a layer norm. A per-thread workgroup is one vector of a
/// software adapter at its usual width. The other implementations use one workgroup per
/// row; rows of the models have 144 to 1280 vec4.
pub static LAYER_CANDIDATES: &[Candidate] = &candidates(NormForm::Layer);

/// The implementations of an RMS norm. They are those of a layer norm.
pub static RMS_CANDIDATES: &[Candidate] = &candidates(NormForm::Rms);

const fn candidates(form: NormForm) -> [Candidate; 5] {
    [
        candidate(form, "per_thread", Strategy::PerThread, &[("WORKGROUP_SIZE", 8)]).preferred(1),
        candidate(form, "workgroup_128", Strategy::Workgroup, &[("WORKGROUP_SIZE", 128)]).preferred(1),
        candidate(form, "workgroup_256", Strategy::Workgroup, &[("WORKGROUP_SIZE", 256)]),
        candidate(form, "subgroup_128", Strategy::Subgroup, &[("WORKGROUP_SIZE", 128)]).preferred(1),
        candidate(form, "subgroup_256", Strategy::Subgroup, &[("WORKGROUP_SIZE", 256)]),
    ]
}

const fn candidate(
    form: NormForm,
    name: &'static str,
    strategy: Strategy,
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    let per_thread = matches!(strategy, Strategy::PerThread);
    let kernels: &'static [&'static Kernel] = match form {
        NormForm::Layer if per_thread => const { &[&LAYER_NORM_PER_THREAD] },
        NormForm::Layer => const { &[&LAYER_NORM] },
        NormForm::Rms if per_thread => const { &[&RMS_NORM_PER_THREAD] },
        NormForm::Rms => const { &[&RMS_NORM] },
    };
    Candidate::new(form.op(), name, strategy, kernels, constants)
}

/// The shaders' `NormParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NormParams {
    /// Features, without padding.
    pub n: u32,
    /// Row length divided by 4.
    pub stride4: u32,
    /// Added to the variance or to the mean of the squares.
    pub epsilon: f32,
    /// 1 if the result is added to the output buffer; 0 for a layer norm.
    pub accumulate: u32,
}

/// Returns the variant of a candidate of either form.
#[must_use]
pub fn variant(candidate: &Candidate) -> Variant {
    let mut fragments = vec![STEP, NORM];
    if candidate.strategy != Strategy::PerThread {
        fragments.push(reduce(candidate.strategy));
    }
    candidate.variant(0, fragments, &[])
}

/// A normalization of the step's rows.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Its form.
    pub form: NormForm,
    /// The step: the number of rows, and the first of them in `x`.
    pub step: BoundBuffer<'a>,
    /// Features, without padding.
    pub n: usize,
    /// Added to the variance or to the mean of the squares.
    pub epsilon: f32,
    /// `[first_row + n_rows, pad_row(n)]`; not the same buffer as `out`.
    pub x: &'a GpuBuffer,
    /// `[NormForm::n_vectors, pad_row(n)]`: the weight, then the bias if the form has one,
    /// padded with zeros.
    pub scale: &'a GpuBuffer,
    /// Whether to add to `out`, as an RMS norm after a branch of the residual connection
    /// does. Layer norms do not add.
    pub accumulate: bool,
    /// `[n_rows, pad_row(n)]`
    pub out: &'a GpuBuffer,
}

/// Records `op` with the implementation that `choices` names for its form.
///
/// # Errors
/// As [`Recorder::dispatch`].
///
/// # Panics
/// For a layer norm that accumulates, because its kernels have no such output.
pub fn record(recorder: &mut Recorder<'_>, choices: &Choices, op: &Norm<'_>) -> Result<()> {
    let (form, candidate, stride) = (op.form, choices.get(op.form.op()), pad_row(op.n));
    assert!(op.scale.bytes() >= (form.n_vectors() * stride * 4) as u64, "scale is too short");
    assert!(form == NormForm::Rms || !op.accumulate, "a layer norm does not add to its output");
    let params = NormParams {
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
