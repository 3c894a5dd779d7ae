//! Matrix times one row or a few rows: decode.
//!
//! The per-thread kernel is for CPU adapters. lavapipe 25 compiles a load from a storage
//! buffer into about ten instructions per lane and seven per loaded element, even if all
//! lanes load the same element. The speed therefore depends on the number of loads per
//! multiplication and on the size of a loop. The `_wide` candidates load two f32 or four
//! f16 at a time on devices whose shaders have 64-bit integers. The `_quad` candidates
//! also need subgroups. Each of four threads reads two of eight elements of the input and
//! broadcasts them.

use super::candidate::{Candidate, Loads, Op};
use super::fragments::{
    ACTIVATION, DOT4, MATMUL, OUTPUT, SOFT_CAP, STEP, input, input8, pack_for_reading, reduce, weights,
};
use super::matmul::Matmul;
use super::matmul_form::Form;
use super::matrix::{Matrix, MatrixLayout};
use crate::error::Result;
use crate::gpu::{Fragment, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

pub(super) static GEMV: Kernel =
    Kernel { name: "gemv", source: include_str!("../../shaders/gemv.wgsl"), bindings: &[] };

/// The per-thread kernel of both gemv and gemm.
pub(super) static GEMV_PER_THREAD: Kernel = Kernel {
    name: "gemv_per_thread",
    source: include_str!("../../shaders/gemv_per_thread.wgsl"),
    bindings: &[],
};

/// Matrix rows per workgroup; twice as many for a gated MLP.
const OUTPUTS: usize = 4;

/// Outputs per thread of the per-thread kernel.
pub(super) const THREAD_OUTPUTS: usize = 8;

/// Numbers of rows that one dispatch can process with one pass over the weights. The sums
/// of each row are in registers. In the per-thread kernel, at most four rows share a
/// pass.
pub const BATCHES: [usize; 4] = [1, 2, 4, 8];

/// Maximum rows that share a thread's loads of the weights. 64 sums do not fit in
/// registers and are no faster than two passes of 32.
pub(super) const PER_THREAD_ROWS: usize = 4;

/// The implementations. A per-thread workgroup is small, one vector of a software adapter
/// at its usual width, so that even small matrices fill two cores.
pub static CANDIDATES: &[Candidate] = &[
    per_thread("per_thread_quad").loading(Loads::WideInQuads).preferred(2),
    per_thread("per_thread").preferred(1),
    workgroup("workgroup_64", Strategy::Workgroup, &[("WORKGROUP_SIZE", 64)]).preferred(1),
    workgroup("workgroup_32", Strategy::Workgroup, &[("WORKGROUP_SIZE", 32)]),
    workgroup("workgroup_128", Strategy::Workgroup, &[("WORKGROUP_SIZE", 128)]),
    workgroup("workgroup_256", Strategy::Workgroup, &[("WORKGROUP_SIZE", 256)]),
    workgroup("subgroup_64", Strategy::Subgroup, &[("WORKGROUP_SIZE", 64)]).preferred(1),
    workgroup("subgroup_32", Strategy::Subgroup, &[("WORKGROUP_SIZE", 32)]),
    workgroup("subgroup_128", Strategy::Subgroup, &[("WORKGROUP_SIZE", 128)]),
    workgroup("subgroup_256", Strategy::Subgroup, &[("WORKGROUP_SIZE", 256)]),
];

const fn per_thread(name: &'static str) -> Candidate {
    let kernels = const { &[&GEMV_PER_THREAD] };
    Candidate::new(Op::Gemv, name, Strategy::PerThread, kernels, &[("WORKGROUP_SIZE", 8)])
}

const fn workgroup(
    name: &'static str,
    strategy: Strategy,
    constants: &'static [(&'static str, u32)],
) -> Candidate {
    Candidate::new(Op::Gemv, name, strategy, const { &[&GEMV] }, constants)
}

/// Returns the variant for a weight type, a layout, one of [`BATCHES`] and a form.
#[must_use]
pub fn variant(
    candidate: &Candidate,
    dtype: DType,
    layout: MatrixLayout,
    batch: usize,
    form: Form,
) -> Variant {
    let input_and_output = [&[input(None, candidate.strategy)][..], &output(form)].concat();
    variant_with(candidate, dtype, layout, batch, form, input_and_output, &[form.gated()])
}

/// Returns the fragments that store the output in a form, which need [`Form::gated`].
pub(super) fn output(form: Form) -> Vec<Fragment> {
    let mut fragments = form.rotation_and_rows();
    fragments.push(OUTPUT);
    fragments
}

/// Returns the number of groups of four matrix rows that a workgroup computes.
const fn parts(form: Form) -> usize {
    if matches!(form, Form::Gated) { 2 } else { 1 }
}

/// Returns the number of rows of a batch that share a pass over the weights.
fn shared_rows(candidate: &Candidate, batch: usize) -> usize {
    match candidate.strategy {
        Strategy::PerThread => batch.min(PER_THREAD_ROWS),
        Strategy::Workgroup | Strategy::Subgroup => batch,
    }
}

/// Returns [`variant`] with the given fragments for input and output.
pub(super) fn variant_with(
    candidate: &Candidate,
    dtype: DType,
    layout: MatrixLayout,
    batch: usize,
    form: Form,
    input_and_output: Vec<Fragment>,
    constants: &[(&'static str, u32)],
) -> Variant {
    let mut own = vec![("BATCH", shared_rows(candidate, batch) as u32)];
    let mut fragments = vec![STEP, pack_for_reading(dtype, candidate.is_wide()), weights(layout)];
    fragments.extend([ACTIVATION, SOFT_CAP, MATMUL, DOT4]);
    match candidate.strategy {
        Strategy::PerThread => fragments.extend(input8(candidate.loads_in_quads())),
        Strategy::Workgroup | Strategy::Subgroup => {
            own.push(("PARTS", parts(form) as u32));
            fragments.push(reduce(candidate.strategy));
        }
    }
    fragments.extend(input_and_output);
    candidate.variant(0, fragments, &[&own, constants].concat())
}

/// Returns the smallest of [`BATCHES`] that holds `n_rows`, or the largest.
#[must_use]
pub fn batch_for(n_rows: usize) -> usize {
    BATCHES.into_iter().find(|&batch| batch >= n_rows).unwrap_or(BATCHES[BATCHES.len() - 1])
}

/// Records `op` for the step's rows, `batch` at a time.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(
    recorder: &mut Recorder<'_>,
    candidate: &Candidate,
    batch: usize,
    op: &Matmul<'_>,
) -> Result<()> {
    let Matrix { dtype, layout, .. } = *op.weights;
    let form = op.form.kind();
    let variant = variant(candidate, dtype, layout, batch, form);
    op.record(recorder, &variant, |n| grid(candidate, batch, form, n))
}

/// Returns the grid for a matrix of `n` rows.
pub(super) fn grid(candidate: &Candidate, batch: usize, form: Form, n: usize) -> Grid {
    let outputs = match candidate.strategy {
        Strategy::PerThread => THREAD_OUTPUTS * candidate.constant("WORKGROUP_SIZE") as usize,
        Strategy::Workgroup | Strategy::Subgroup => OUTPUTS * parts(form),
    };
    Grid::LineByRows { groups: n.div_ceil(outputs) as u32, rows: shared_rows(candidate, batch) as u32 }
}
