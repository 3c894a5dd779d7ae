//! Matrix times matrix: prefill, and decode where results must not depend on
//! the number of rows.

use super::fragments::{ACTIVATION, MATMUL, STEP, pack};
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

/// Rows and columns of a workgroup's tile.
const TILE: u32 = 64;
/// One vector of a software adapter at its usual width.
const PER_THREAD_WORKGROUP_SIZE: u32 = 8;
/// Rows of a thread, per thread.
const PER_THREAD_ROWS: u32 = 2;
/// Outputs of a thread in a row, per thread.
const PER_THREAD_OUTPUTS: u32 = 4;

/// The variant for a strategy and a weight type.
#[must_use]
pub fn variant(strategy: Strategy, dtype: DType) -> Variant {
    let fragments = vec![STEP, pack(dtype), ACTIVATION, MATMUL];
    match strategy {
        Strategy::PerThread => Variant {
            kernel: &GEMM_PER_THREAD,
            strategy,
            fragments,
            constants: vec![("WORKGROUP_SIZE", PER_THREAD_WORKGROUP_SIZE), ("ROWS", PER_THREAD_ROWS)],
        },
        // The tiled kernel has no reduction: subgroups have the same one.
        Strategy::Workgroup | Strategy::Subgroup => Variant {
            kernel: &GEMM,
            strategy: Strategy::Workgroup,
            fragments,
            constants: vec![("TILE", TILE)],
        },
    }
}

/// Records `op` for the step's rows.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, strategy: Strategy, op: &Matmul<'_>) -> Result<()> {
    let variant = variant(strategy, op.weights.dtype);
    op.record(recorder, &variant, |n| match strategy {
        Strategy::PerThread => Grid::Plane(
            Extent::Fixed(n as u32 / PER_THREAD_OUTPUTS),
            Extent::PerRows(PER_THREAD_WORKGROUP_SIZE * PER_THREAD_ROWS),
        ),
        Strategy::Workgroup | Strategy::Subgroup => {
            Grid::Plane(Extent::Fixed((n as u32).div_ceil(TILE)), Extent::PerRows(TILE))
        }
    })
}
