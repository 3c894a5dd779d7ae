//! Finds the most probable token without reading the logits back.

use super::fragments::ORDER_KEY;
use crate::error::Result;
use crate::gpu::{Binding, Extent, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};

static ARGMAX: Kernel = Kernel {
    name: "argmax",
    source: include_str!("../../shaders/argmax.wgsl"),
    bindings: &[Binding::uniform(0, "params"), Binding::read(1, "logits"), Binding::read_write(2, "result")],
};

const WORKGROUP_SIZE: u32 = 256;

/// Bytes of a row's result: index, flag, and two unused words.
pub const RESULT_BYTES: u64 = 16;

/// The shader's `ArgmaxParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ArgmaxParams {
    /// Number of logits.
    pub n: u32,
    /// Length of a row of logits.
    pub stride: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 2],
}

/// Returns the only variant.
#[must_use]
pub fn variant() -> Variant {
    Variant {
        kernel: &ARGMAX,
        strategy: Strategy::Workgroup,
        fragments: vec![ORDER_KEY],
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
    }
}

/// Records the argmax of `logits[row, 0..n]` for the step's rows, which are `stride`
/// elements apart. `result[row]` receives the index and a flag. The flag is 1 if a logit
/// is NaN or plus infinity, or if all are minus infinity.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(
    recorder: &mut Recorder<'_>,
    n: usize,
    stride: usize,
    logits: &GpuBuffer,
    result: &GpuBuffer,
) -> Result<()> {
    assert!(n <= stride && logits.bytes() >= (n * 4) as u64, "logits are too short");
    let params = ArgmaxParams { n: n as u32, stride: stride as u32, unused: [0; 2] };
    let grid = Grid::Plane(Extent::PerRows(1), Extent::Fixed(1));
    recorder.dispatch(&variant(), &params, &[logits.into(), result.into()], grid)
}
