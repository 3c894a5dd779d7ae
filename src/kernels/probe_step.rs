//! The smallest dispatch. It measures the fixed cost of a dispatch.

use crate::error::Result;
use crate::gpu::{Binding, Extent, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};

static PROBE_STEP: Kernel = Kernel {
    name: "probe_step",
    source: include_str!("../../shaders/probe_step.wgsl"),
    bindings: &[Binding::uniform(0, "params"), Binding::read_write(1, "x")],
};

/// Elements, one per thread.
pub const ELEMS: usize = 64;

/// The shader's `ProbeStepParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeStepParams {
    /// Added to each element.
    pub increment: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 3],
}

/// Returns the only variant.
#[must_use]
pub fn variant() -> Variant {
    Variant {
        kernel: &PROBE_STEP,
        strategy: Strategy::PerThread,
        fragments: Vec::new(),
        constants: vec![("WORKGROUP_SIZE", ELEMS as u32)],
    }
}

/// Records the addition of `increment` to the [`ELEMS`] elements of `x`.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(recorder: &mut Recorder<'_>, increment: u32, x: &GpuBuffer) -> Result<()> {
    assert!(x.bytes() >= (ELEMS * 4) as u64, "x is too short");
    let one = Extent::Fixed(1);
    let params = ProbeStepParams { increment, unused: [0; 3] };
    recorder.dispatch(&variant(), &params, &[x.into()], Grid::Plane(one, one))
}
