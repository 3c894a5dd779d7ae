//! The product of gate and up in a gated MLP, for matrix kernels whose epilogue lacks one
//! of them.

use super::fragments::{ACTIVATION, STEP};
use super::matmul::Activation;
use crate::error::Result;
use crate::gpu::{Binding, BoundBuffer, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};

static GATED: Kernel = Kernel {
    name: "gated",
    source: include_str!("../../shaders/gated.wgsl"),
    bindings: &[
        Binding::uniform(0, "params"),
        Binding::uniform(1, "step"),
        Binding::read(2, "x"),
        Binding::read_write(3, "out"),
    ],
};

const WORKGROUP_SIZE: u32 = 64;

/// The shader's `GatedParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct GatedParams {
    /// Output row length divided by 4.
    pub n4: u32,
    /// Number of the activation function.
    pub activation: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 2],
}

/// Returns the only variant.
#[must_use]
pub fn variant() -> Variant {
    Variant {
        kernel: &GATED,
        strategy: Strategy::PerThread,
        fragments: vec![STEP, ACTIVATION],
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
    }
}

/// `out = activate(gate) * up`.
#[derive(Clone, Copy, Debug)]
pub struct Gated<'a> {
    /// The step, for the number of rows.
    pub step: BoundBuffer<'a>,
    /// Columns of the output with padding.
    pub n: usize,
    /// Applied to the gate.
    pub activation: Activation,
    /// `[n_rows, 2 n]`: gate and up, in the order of [`super::gated_row`].
    pub x: &'a GpuBuffer,
    /// `[n_rows, n]`
    pub out: &'a GpuBuffer,
}

/// Records `op`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, op: &Gated<'_>) -> Result<()> {
    assert!(op.x.bytes() >= (op.n * 8) as u64, "gate and up are shorter than a row");
    assert!(op.out.bytes() >= (op.n * 4) as u64, "out is shorter than a row");
    let n4 = (op.n / 4) as u32;
    let params = GatedParams { n4, activation: op.activation as u32, unused: [0; 2] };
    let grid = Grid::Line { per_row: n4, group: WORKGROUP_SIZE };
    recorder.dispatch(&variant(), &params, &[op.step, op.x.into(), op.out.into()], grid)
}
