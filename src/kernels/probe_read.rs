//! A read. It measures the bandwidth of kernels that read much more than they write, such
//! as the decode kernels. Software adapters read faster than they copy.

use super::probe_copy::{PACK_BYTES, PackShape, shape};
use crate::error::Result;
use crate::gpu::{Binding, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};

static PROBE_READ: Kernel = Kernel {
    name: "probe_read",
    source: include_str!("../../shaders/probe_read.wgsl"),
    bindings: &[Binding::uniform(0, "params"), Binding::read(1, "x"), Binding::read_write(2, "out")],
};

/// The shapes to try. With 16 or more packs per thread, the writes have little effect.
pub const SHAPES: [PackShape; 4] = [
    shape("256x16", 256, 16, false),
    shape("64x64", 64, 64, false),
    shape("8x64", 8, 64, false),
    shape("8x256_per_thread", 8, 256, true),
];

/// The shader's `ProbeReadParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeReadParams {
    /// Packs of 16 bytes.
    pub n: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 3],
}

/// Returns the variant of a shape.
#[must_use]
pub fn variant(shape: PackShape) -> Variant {
    Variant {
        kernel: &PROBE_READ,
        strategy: Strategy::PerThread,
        fragments: Vec::new(),
        constants: shape.constants(),
    }
}

/// Returns the number of threads that read `n` packs.
#[must_use]
pub fn threads(shape: PackShape, n: usize) -> usize {
    shape.groups(n) as usize * shape.workgroup_size as usize
}

/// Records the read of `n` packs of `x`; `out` has one pack for each of [`threads`].
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(
    recorder: &mut Recorder<'_>,
    shape: PackShape,
    n: usize,
    x: &GpuBuffer,
    out: &GpuBuffer,
) -> Result<()> {
    assert!(x.bytes() >= (n * PACK_BYTES) as u64, "x is too short");
    assert!(out.bytes() >= (threads(shape, n) * PACK_BYTES) as u64, "out is too short");
    // The kernel takes the number of workgroups from the grid. A folded grid has only
    // full rows, and may have more workgroups than `out` has space for.
    let groups = shape.groups(n);
    assert!(groups <= 65_535, "{groups} workgroups");
    let params = ProbeReadParams { n: n as u32, unused: [0; 3] };
    recorder.dispatch(&variant(shape), &params, &[x.into(), out.into()], Grid::FixedLine(groups))
}
