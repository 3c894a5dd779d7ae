//! A copy. It measures the bandwidth with which other kernels are compared.

use crate::error::Result;
use crate::gpu::{Binding, GpuBuffer, Grid, Kernel, Recorder, Strategy, Variant};

static PROBE_COPY: Kernel = Kernel {
    name: "probe_copy",
    source: include_str!("../../shaders/probe_copy.wgsl"),
    bindings: &[Binding::uniform(0, "params"), Binding::read(1, "x"), Binding::read_write(2, "out")],
};

/// Bytes of a pack: one load.
pub const PACK_BYTES: usize = 16;

/// The distribution of a workgroup's packs over its threads, for a copy or a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackShape {
    /// The name that reports print.
    pub name: &'static str,
    /// Threads per workgroup.
    pub workgroup_size: u32,
    /// Packs per thread.
    pub items: u32,
    /// Whether the packs of one thread are adjacent, which may suit software adapters.
    /// Otherwise each pack is next to a pack of the adjacent thread.
    pub per_thread: bool,
}

pub(super) const fn shape(
    name: &'static str,
    workgroup_size: u32,
    items: u32,
    per_thread: bool,
) -> PackShape {
    PackShape { name, workgroup_size, items, per_thread }
}

impl PackShape {
    /// Returns the constants of the shaders that read packs.
    pub(super) fn constants(self) -> Vec<(&'static str, u32)> {
        let (lane_stride, item_stride) =
            if self.per_thread { (self.items, 1) } else { (1, self.workgroup_size) };
        vec![
            ("WORKGROUP_SIZE", self.workgroup_size),
            ("ITEMS", self.items),
            ("LANE_STRIDE", lane_stride),
            ("ITEM_STRIDE", item_stride),
        ]
    }

    /// Returns the workgroups for `n` packs.
    pub(super) fn groups(self, n: usize) -> u32 {
        (n as u32).div_ceil(self.workgroup_size * self.items)
    }

    /// Returns the packs of a thread; some may be beyond the end.
    pub fn packs(self, thread: usize) -> impl Iterator<Item = usize> {
        let (size, items) = (self.workgroup_size as usize, self.items as usize);
        let (group, lane) = (thread / size, thread % size);
        let (first, stride) = if self.per_thread { (lane * items, 1) } else { (lane, size) };
        (0..items).map(move |item| group * size * items + first + item * stride)
    }
}

/// The shapes to try. The fastest one counts.
pub const SHAPES: [PackShape; 5] = [
    shape("256x1", 256, 1, false),
    shape("256x4", 256, 4, false),
    shape("64x8", 64, 8, false),
    shape("8x16", 8, 16, false),
    shape("8x64_per_thread", 8, 64, true),
];

/// The shader's `ProbeCopyParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeCopyParams {
    /// Packs of 16 bytes.
    pub n: u32,
    /// Padding to 16 bytes.
    pub unused: [u32; 3],
}

/// Returns the variant of a shape.
#[must_use]
pub fn variant(shape: PackShape) -> Variant {
    Variant {
        kernel: &PROBE_COPY,
        strategy: Strategy::PerThread,
        fragments: Vec::new(),
        constants: shape.constants(),
    }
}

/// Records the copy of `n` packs from `x` to `out`.
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
    assert!(x.bytes().min(out.bytes()) >= (n * PACK_BYTES) as u64, "a buffer is too short");
    let params = ProbeCopyParams { n: n as u32, unused: [0; 3] };
    let grid = Grid::FixedLine(shape.groups(n));
    recorder.dispatch(&variant(shape), &params, &[x.into(), out.into()], grid)
}
