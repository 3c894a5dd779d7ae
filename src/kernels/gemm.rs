//! Matrix times matrix: prefill, and decode where results must not depend on
//! the number of rows.

use super::candidate::{Candidate, Needs, Op};
use super::fragments::{ACTIVATION, DOT4, MATMUL, STEP, load4, pack_for_reading};
use super::matmul::Matmul;
use crate::error::Result;
use crate::gpu::{Binding, Extent, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static GEMM: Kernel = Kernel {
    name: "gemm",
    source: include_str!("../../shaders/gemm.wgsl"),
    bindings: &[Binding::read(2, "x")],
};

static GEMM_PER_THREAD: Kernel = Kernel {
    name: "gemm_per_thread",
    source: include_str!("../../shaders/gemm_per_thread.wgsl"),
    bindings: &[Binding::read(2, "x")],
};

/// The implementations.
pub static CANDIDATES: &[Candidate] = &[
    per_thread("per_thread_4x8_wide", Needs::Int64),
    per_thread("per_thread_4x8", Needs::Floor),
    Candidate {
        op: Op::Gemm,
        name: "tile_64x64",
        strategy: Strategy::Workgroup,
        needs: Needs::Floor,
        kernels: const { &[&GEMM] },
        constants: &[("TILE", 64)],
    },
];

/// Workgroups of one vector of a software adapter at its usual width.
const fn per_thread(name: &'static str, needs: Needs) -> Candidate {
    Candidate {
        op: Op::Gemm,
        name,
        strategy: Strategy::PerThread,
        needs,
        kernels: const { &[&GEMM_PER_THREAD] },
        constants: &[("WORKGROUP_SIZE", 8), ("ROWS", 4), ("OUTPUTS", 8)],
    }
}

/// The variant for a weight type.
#[must_use]
pub fn variant(candidate: &Candidate, dtype: DType) -> Variant {
    let wide = candidate.is_wide();
    let mut fragments = vec![STEP, pack_for_reading(dtype, wide), ACTIVATION, MATMUL];
    if candidate.strategy == Strategy::PerThread {
        fragments.extend([load4(wide), DOT4]);
    }
    candidate.variant(0, fragments, &[])
}

/// Records `op` for the step's rows.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, candidate: &Candidate, op: &Matmul<'_>) -> Result<()> {
    let variant = variant(candidate, op.weights.dtype);
    let (columns, rows) = match candidate.strategy {
        Strategy::PerThread => {
            (candidate.constant("OUTPUTS"), candidate.constant("WORKGROUP_SIZE") * candidate.constant("ROWS"))
        }
        Strategy::Workgroup | Strategy::Subgroup => (candidate.constant("TILE"), candidate.constant("TILE")),
    };
    op.record(recorder, &variant, |n| {
        Grid::Plane(Extent::Fixed((n as u32).div_ceil(columns)), Extent::PerRows(rows))
    })
}
