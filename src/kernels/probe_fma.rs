//! Chains of multiply-adds. They measure the rate of f32 arithmetic with which other
//! kernels are compared.

use crate::error::Result;
use crate::gpu::{Binding, Extent, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};

static PROBE_FMA: Kernel = Kernel {
    name: "probe_fma",
    source: include_str!("../../shaders/probe_fma.wgsl"),
    bindings: &[Binding::uniform(0, "params"), Binding::read_write(1, "out")],
};

/// Multiply-adds per element of a chain in one iteration.
pub const UNROLL: usize = 4;

/// The work of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FmaShape {
    /// The name that reports print.
    pub name: &'static str,
    /// Threads per workgroup.
    pub workgroup_size: u32,
    /// Independent vec4 per thread: 2 or 4.
    pub chains: u32,
}

/// The shapes to try. The fastest one gives the adapter's rate. Two chains fit in the 16
/// vector registers of a CPU. Four hide a GPU's latency.
pub const SHAPES: [FmaShape; 4] = [
    FmaShape { name: "8x2", workgroup_size: 8, chains: 2 },
    FmaShape { name: "64x2", workgroup_size: 64, chains: 2 },
    FmaShape { name: "64x4", workgroup_size: 64, chains: 4 },
    FmaShape { name: "256x4", workgroup_size: 256, chains: 4 },
];

impl FmaShape {
    /// Returns the floating-point operations of `n_threads` threads; a multiply-add
    /// counts as two.
    #[must_use]
    pub fn flops(self, n_threads: usize, iterations: usize) -> u64 {
        (n_threads * iterations * UNROLL * self.chains as usize * 4 * 2) as u64
    }
}

/// The shader's `ProbeFmaParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeFmaParams {
    /// Iterations of the loop.
    pub iterations: u32,
    /// The multiplier.
    pub factor: f32,
    /// The addend.
    pub offset: f32,
    /// Padding to 16 bytes.
    pub unused: u32,
}

/// Returns the variant of a shape.
#[must_use]
pub fn variant(shape: FmaShape) -> Variant {
    Variant {
        kernel: &PROBE_FMA,
        strategy: Strategy::PerThread,
        fragments: Vec::new(),
        constants: vec![("WORKGROUP_SIZE", shape.workgroup_size), ("CHAINS", shape.chains)],
    }
}

/// Records `n_threads` threads, a multiple of the workgroup size in at most 65,535
/// workgroups. `factor` must be below 1, so that values stay bounded.
///
/// # Errors
/// As [`Recorder::dispatch`].
pub fn record(
    recorder: &mut Recorder<'_>,
    shape: FmaShape,
    n_threads: usize,
    params: ProbeFmaParams,
    out: &GpuBuffer,
) -> Result<()> {
    let groups = n_threads as u32 / shape.workgroup_size;
    let whole = (n_threads as u32).is_multiple_of(shape.workgroup_size);
    assert!(whole && groups <= 65_535, "{n_threads} threads");
    assert!(out.bytes() >= (n_threads * 16) as u64, "out is too short");
    let grid = Grid::Plane(Extent::Fixed(groups), Extent::Fixed(1));
    recorder.dispatch(&variant(shape), &params, &[out.into()], grid)
}
