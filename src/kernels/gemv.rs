//! Matrix times vector: decode.

use super::fragments::{ACTIVATION, MATMUL, STEP, pack, reduce};
use super::matmul::Matmul;
use crate::error::Result;
use crate::gpu::{Binding, Grid, Kernel, Recorder, Strategy, Variant};
use crate::tensor::DType;

static GEMV: Kernel = Kernel {
    name: "gemv",
    source: include_str!("../../shaders/gemv.wgsl"),
    bindings: &[Binding::read(2, "x")],
};

static GEMV_PER_THREAD: Kernel = Kernel {
    name: "gemv_per_thread",
    source: include_str!("../../shaders/gemv_per_thread.wgsl"),
    bindings: &[Binding::read(2, "x")],
};

/// Outputs of a workgroup (of a thread, per thread): one vec4.
const OUTPUTS: usize = 4;
/// Threads that share a row's k: two subgroups on most GPUs.
const WORKGROUP_SIZE: u32 = 64;
/// One vector of a software adapter at its usual width; small matrices still
/// fill two cores.
const PER_THREAD_WORKGROUP_SIZE: u32 = 8;

/// The variant for a strategy and a weight type.
#[must_use]
pub fn variant(strategy: Strategy, dtype: DType) -> Variant {
    let mut fragments = vec![STEP, pack(dtype), ACTIVATION, MATMUL];
    let (kernel, size) = match strategy {
        Strategy::PerThread => (&GEMV_PER_THREAD, PER_THREAD_WORKGROUP_SIZE),
        Strategy::Workgroup | Strategy::Subgroup => {
            fragments.push(reduce(strategy));
            (&GEMV, WORKGROUP_SIZE)
        }
    };
    Variant { kernel, strategy, fragments, constants: vec![("WORKGROUP_SIZE", size)] }
}

/// Records `op` for the one row 0 of its input and output.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, strategy: Strategy, op: &Matmul<'_>) -> Result<()> {
    let threads = match strategy {
        Strategy::PerThread => PER_THREAD_WORKGROUP_SIZE as usize,
        Strategy::Workgroup | Strategy::Subgroup => 1,
    };
    let variant = variant(strategy, op.weights.dtype);
    op.record(recorder, &variant, |n| Grid::FixedLine(n.div_ceil(OUTPUTS * threads) as u32))
}
