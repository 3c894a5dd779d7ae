//! Matrix times matrix: prefill, and decode if results must not depend on the number of rows.
//!
//! The per-thread candidates are gemv's per-thread kernel at up to four rows.
//!
//! Candidates that split k (`split_4`, `split_8`) do so in steps of up to 64 rows, for
//! matrices of up to 16,384 rows. The parts pass through a scratch buffer to `gemm_sum`,
//! which has the epilogue. Both the split and the whole kernel are recorded, and in each
//! step the grids of one of them are empty.
//!
//! The cooperative candidates round activations to f16 when they store them in workgroup
//! memory (a value beyond f16 becomes its largest value), and sum in f32. They run only
//! if tuning selected them or `--variant` names them, and never with f32 weights. They
//! have not run on a GPU yet. `cooperative_8` agrees with the reference on Mesa 26.2's
//! lavapipe. `cooperative_16` is the same source, translated to SPIR-V and MSL. Tuning
//! selects them only after the canary has checked them.
//!
//! A deterministic model uses neither kind.

use super::candidate::{Candidate, Loads, Op};
use super::fragments::{
    ACTIVATION, MATMUL, OUTPUT, OUTPUT_PARTIAL, SOFT_CAP, STEP, cooperative, gemm_block, pack, weights,
};
use super::gated::{self, Gated};
use super::gemv::{self, GEMV_PER_THREAD, PER_THREAD_ROWS};
use super::matmul::{Activation, Matmul, Slice};
use super::matmul_form::{Form, MatmulForm};
use super::matrix::{Matrix, MatrixLayout};
use crate::error::Result;
use crate::gpu::{Binding, Extent, Fragment, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static GEMM: Kernel = Kernel {
    name: "gemm",
    source: include_str!("../../shaders/gemm.wgsl"),
    bindings: &[Binding::read(2, "x")],
};

static GEMM_SUM: Kernel = Kernel {
    name: "gemm_sum",
    source: include_str!("../../shaders/gemm_sum.wgsl"),
    bindings: &[Binding::read(6, "partial")],
};

static GEMM_COOPERATIVE: Kernel = Kernel {
    name: "gemm_cooperative",
    source: include_str!("../../shaders/gemm_cooperative.wgsl"),
    bindings: &[Binding::read(2, "x")],
};

/// Candidates that split k sum steps of at most this many rows in parts. For the other
/// candidates, such a step is one row of tiles, so only a few workgroups would run. The
/// limit also bounds [`scratch_bytes`].
pub const SPLIT_ROWS: u32 = 64;

/// Matrices with more rows are not split. For them, even a step of [`SPLIT_ROWS`] rows
/// has at least 256 workgroups, which is more than a GPU runs at once.
const SPLIT_COLUMNS: usize = 16_384;

/// Threads per workgroup of gemm_sum.
const SUM_THREADS: u32 = 64;

/// The tile, the K tile, a thread's block, and the number of parts of a sum.
macro_rules! constants {
    ($m:literal, $n:literal, $k:literal, $block_m:literal, $block_n:literal, $splits:literal) => {
        &[
            ("TILE_M", $m),
            ("TILE_N", $n),
            ("TILE_K", $k),
            ("BLOCK_M", $block_m),
            ("BLOCK_N", $block_n),
            ("SPLITS", $splits),
        ]
    };
}
/// The untuned default on GPUs. Candidates that split k also run it if there are many rows.
const TILE_64X64: Candidate = tile("tile_64x64", constants!(64, 64, 16, 4, 4, 1)).preferred(1);

/// The implementations. Large tiles reuse more data; small tiles fill more of a GPU if
/// there are few rows or columns. K tiles of 32 halve the number of barriers if they fit
/// in the workgroup memory (16 KiB).
pub static CANDIDATES: &[Candidate] = &[
    per_thread("per_thread_4x8_quad").loading(Loads::WideInQuads).preferred(2),
    per_thread("per_thread_4x8").preferred(1),
    TILE_64X64,
    tile("tile_128x64", constants!(128, 64, 16, 8, 4, 1)),
    tile("tile_128x64_8x8", constants!(128, 64, 16, 8, 8, 1)),
    tile("tile_64x32", constants!(64, 32, 32, 4, 4, 1)),
    tile("tile_32x64", constants!(32, 64, 32, 4, 4, 1)),
    tile("tile_32x32", constants!(32, 32, 32, 4, 4, 1)),
    split("split_4", constants!(32, 64, 32, 4, 4, 4)),
    split("split_8", constants!(32, 64, 32, 4, 4, 8)),
    cooperative_matrix("cooperative_16", 16, &[("TILE_M", 128), ("TILE_N", 64), ("TILE_K", 16)]),
    cooperative_matrix("cooperative_8", 8, &[("TILE_M", 64), ("TILE_N", 32), ("TILE_K", 32)]),
];

/// Gemv for as many rows as share its loads. A workgroup is one vector of a software
/// adapter at its usual width.
const fn per_thread(name: &'static str) -> Candidate {
    let kernels = const { &[&GEMV_PER_THREAD] };
    Candidate::new(Op::Gemm, name, Strategy::PerThread, kernels, &[("WORKGROUP_SIZE", 8)])
}

const fn tile(name: &'static str, constants: &'static [(&'static str, u32)]) -> Candidate {
    Candidate::new(Op::Gemm, name, Strategy::Workgroup, const { &[&GEMM] }, constants)
}

const fn split(name: &'static str, constants: &'static [(&'static str, u32)]) -> Candidate {
    Candidate::new(Op::Gemm, name, Strategy::Workgroup, const { &[&GEMM, &GEMM_SUM] }, constants)
}

/// These candidates round activations, so none is a default. Their strategy is
/// `Workgroup`, although subgroups hold the matrices, so that devices of either strategy
/// may run them.
const fn cooperative_matrix(
    name: &'static str,
    side: u32,
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    let kernels = const { &[&GEMM_COOPERATIVE] };
    Candidate::new(Op::Gemm, name, Strategy::Workgroup, kernels, constants).on_matrix_units(side)
}

/// Returns the variants for a weight type, a layout and a form, in dispatch order.
///
/// # Panics
/// For a gated MLP if the candidate [`needs_gated_scratch`].
#[must_use]
pub fn variants(candidate: &Candidate, dtype: DType, layout: MatrixLayout, form: Form) -> Vec<Variant> {
    if candidate.strategy == Strategy::PerThread {
        return vec![gemv::variant(candidate, dtype, layout, PER_THREAD_ROWS, form)];
    }
    assert_ne!(form, Form::Gated, "{candidate}: no thread has both gate and up");
    let common = vec![STEP, pack(dtype), weights(layout), ACTIVATION, SOFT_CAP, MATMUL];
    let with = |form: Form, more: &[Fragment]| [&common, &form.rotation_and_rows()[..], more].concat();
    if let Some(side) = candidate.matrix_side {
        return vec![candidate.variant(0, with(form, &[cooperative(side)]), &[])];
    }
    let block = gemm_block(candidate.constant("BLOCK_M"), candidate.constant("BLOCK_N"));
    if candidate.splits() == 1 {
        return vec![candidate.variant(0, with(form, &[block, OUTPUT]), &[form.gated()])];
    }
    // The sum applies the epilogue.
    let sum = Variant {
        kernel: candidate.kernels[1],
        strategy: candidate.strategy,
        fragments: with(form, &[]),
        constants: vec![("SPLITS", candidate.splits())],
    };
    vec![candidate.variant(0, with(Form::Plain, &[block, OUTPUT_PARTIAL]), &[]), sum]
}

/// Returns whether a gated MLP passes gate and up through a buffer. This is needed if no
/// thread has eight consecutive columns.
#[must_use]
pub fn needs_gated_scratch(candidate: &Candidate) -> bool {
    candidate.strategy != Strategy::PerThread
}

/// Memory for intermediate results.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scratch<'a> {
    /// Partial sums over k, [`scratch_bytes`] long.
    pub splits: Option<&'a GpuBuffer>,
    /// Gate and up of a gated MLP, `[n_rows, weights.n_rows]` f32, if the candidate
    /// [`needs_gated_scratch`].
    pub gated: Option<&'a GpuBuffer>,
}

/// Returns the bytes of scratch that `candidate` needs to split k for a matrix of `n`
/// rows; 0 if it does not split k.
#[must_use]
pub fn scratch_bytes(candidate: &Candidate, n: usize) -> u64 {
    match candidate.splits() {
        splits if splits == 1 || n > SPLIT_COLUMNS => 0,
        splits => u64::from(splits) * u64::from(SPLIT_ROWS) * n as u64 * 4,
    }
}

/// Records `op` for the step's rows. A candidate that splits k does so if `scratch` has
/// [`scratch_bytes`] and the matrix is in one piece. Otherwise the plain tile runs. It
/// also runs in steps of more than [`SPLIT_ROWS`] rows.
///
/// # Errors
/// As [`Recorder::dispatch`].
///
/// # Panics
/// If a gated MLP's scratch is missing.
pub fn record(
    recorder: &mut Recorder<'_>,
    candidate: &Candidate,
    scratch: Scratch<'_>,
    op: &Matmul<'_>,
) -> Result<()> {
    if !(matches!(op.form, MatmulForm::Gated) && needs_gated_scratch(candidate)) {
        return record_form(recorder, candidate, scratch.splits, op);
    }
    let both = scratch.gated.unwrap_or_else(|| panic!("{candidate}: no scratch for a gated MLP"));
    let plain = Matmul { activation: Activation::None, form: MatmulForm::Plain, out: both, ..*op };
    record_form(recorder, candidate, scratch.splits, &plain)?;
    let n = op.weights.n_rows / 2;
    gated::record(recorder, &Gated { step: op.step, n, activation: op.activation, x: both, out: op.out })
}

/// Records every form except a gated MLP with a scratch buffer.
fn record_form(
    recorder: &mut Recorder<'_>,
    candidate: &Candidate,
    scratch: Option<&GpuBuffer>,
    op: &Matmul<'_>,
) -> Result<()> {
    if candidate.splits() == 1 {
        return record_whole(recorder, candidate, op, Extent::PerRows);
    }
    let needed = scratch_bytes(candidate, op.weights.n_rows);
    let whole = Matmul { rows_at_once: None, ..*op };
    let mut slices = whole.slices();
    match (slices.next(), slices.next(), scratch) {
        (Some(slice), None, Some(scratch)) if needed > 0 && scratch.bytes() >= needed => {
            record_split(recorder, candidate, scratch, &whole, slice)?;
            let limit = SPLIT_ROWS;
            record_whole(recorder, &TILE_64X64, &whole, |rows| Extent::PerRowsBeyond { rows, limit })
        }
        _ => record_whole(recorder, &TILE_64X64, op, Extent::PerRows),
    }
}

/// Records a kernel in which one thread sums an output over all of k.
fn record_whole(
    recorder: &mut Recorder<'_>,
    candidate: &Candidate,
    op: &Matmul<'_>,
    per_rows: impl Fn(u32) -> Extent,
) -> Result<()> {
    let Matrix { dtype, layout, .. } = *op.weights;
    let form = op.form.kind();
    let [variant] = &variants(candidate, dtype, layout, form)[..] else { unreachable!("one kernel") };
    op.record(recorder, variant, |n| match candidate.strategy {
        Strategy::PerThread => gemv::grid(candidate, PER_THREAD_ROWS, form, n),
        Strategy::Workgroup | Strategy::Subgroup => {
            let columns = Extent::Fixed((n as u32).div_ceil(candidate.constant("TILE_N")));
            Grid::Plane(columns, per_rows(candidate.constant("TILE_M")))
        }
    })
}

/// Records, for steps of few rows, a kernel whose workgroups share the k of an output,
/// then the sum of their parts.
fn record_split(
    recorder: &mut Recorder<'_>,
    candidate: &Candidate,
    scratch: &GpuBuffer,
    op: &Matmul<'_>,
    slice: Slice<'_>,
) -> Result<()> {
    let Matrix { dtype, layout, .. } = *op.weights;
    let all = variants(candidate, dtype, layout, op.form.kind());
    let [parts, sum] = &all[..] else { unreachable!("two kernels") };
    let (n, limit) = (slice.n_rows as u32, SPLIT_ROWS);
    let per_rows = |rows| Extent::PerRowsUpTo { rows, limit };
    Matmul { form: MatmulForm::Plain, ..*op }.record_with(
        recorder,
        parts,
        |_| (),
        &[scratch.into()],
        |_| {
            Grid::Volume(
                Extent::Fixed(n.div_ceil(candidate.constant("TILE_N"))),
                per_rows(candidate.constant("TILE_M")),
                Extent::Fixed(candidate.splits()),
            )
        },
    )?;
    let [step, weights, bias, out] = op.bound(slice);
    let mut bound = vec![step, weights, bias, out, scratch.into()];
    bound.extend(op.form.bindings());
    let grid = Grid::Plane(Extent::Fixed((n / 4).div_ceil(SUM_THREADS)), per_rows(1));
    recorder.dispatch(sum, &op.params(slice), &bound, grid)
}
