//! Work that is recorded once and encoded in every step.

use std::collections::HashMap;
use std::sync::Arc;

use super::{BindingKind, BufferUse, Gpu, GpuBuffer, MemoryGroup, Pipeline, Variant};
use crate::error::{Error, Result};

/// The quantities of a step that a dispatch's size may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Rows of activations in this step.
    pub n_rows: u32,
    /// Positions in the KV cache after this step.
    pub kv_len: u32,
}

/// One dimension of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// The same in every step.
    Fixed(u32),
    /// One workgroup per this many rows.
    PerRows(u32),
    /// As [`Extent::PerRows`] in steps of at most `limit` rows. There are no workgroups
    /// in other steps.
    PerRowsUpTo {
        /// Rows per workgroup.
        rows: u32,
        /// The largest number of rows for which there are workgroups.
        limit: u32,
    },
    /// As [`Extent::PerRows`] in steps of more than `limit` rows. There are no workgroups
    /// in other steps.
    PerRowsBeyond {
        /// Rows per workgroup.
        rows: u32,
        /// The largest number of rows for which there are no workgroups.
        limit: u32,
    },
    /// One workgroup per `group` items. Each row has `per_row` items.
    PerItems {
        /// Items per row.
        per_row: u32,
        /// Items per workgroup.
        group: u32,
    },
    /// One workgroup per `keys` of the cached positions that may be visible.
    PerKeys {
        /// Positions per workgroup.
        keys: u32,
        /// The maximum number of positions that can be visible; `u32::MAX` for all.
        reach: u32,
    },
}

impl Extent {
    fn count(self, work: Work) -> u32 {
        match self {
            Extent::Fixed(n) => n,
            Extent::PerRows(rows) => work.n_rows.div_ceil(rows),
            Extent::PerRowsUpTo { rows, limit } if work.n_rows <= limit => work.n_rows.div_ceil(rows),
            Extent::PerRowsBeyond { rows, limit } if work.n_rows > limit => work.n_rows.div_ceil(rows),
            Extent::PerRowsUpTo { .. } | Extent::PerRowsBeyond { .. } => 0,
            Extent::PerItems { per_row, group } => (work.n_rows * per_row).div_ceil(group),
            Extent::PerKeys { keys, reach } => work.kv_len.min(reach).div_ceil(keys),
        }
    }
}

/// The number of workgroups of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grid {
    /// A two-dimensional grid. Each dimension must stay within the limit.
    Plane(Extent, Extent),
    /// If more than `keys` positions are cached, `groups` workgroups per row; otherwise
    /// none.
    Beyond {
        /// The largest number of cached positions for which there is no work.
        keys: u32,
        /// Workgroups per row beyond that.
        groups: u32,
    },
    /// A three-dimensional grid. Each dimension must stay within the limit.
    Volume(Extent, Extent, Extent),
    /// A line of `ceil(n_rows * per_row / group)` workgroups. A line longer than the
    /// limit is folded into two dimensions, and the kernel computes `id.y * count.x +
    /// id.x`.
    Line {
        /// Threads of work per row of activations.
        per_row: u32,
        /// Threads per workgroup.
        group: u32,
    },
    /// As [`Grid::Line`], with a number of workgroups that does not depend on the rows.
    FixedLine(u32),
    /// One line of `groups` workgroups per `rows` rows, folded like [`Grid::Line`]. The
    /// third dimension counts the lines.
    LineByRows {
        /// Workgroups per line.
        groups: u32,
        /// Rows per line.
        rows: u32,
    },
}

/// The portable limit on workgroups in one dimension.
const WORKGROUPS_MAX: u32 = 65_535;

impl Grid {
    /// Returns the workgroup counts for one step.
    #[must_use]
    pub fn counts(self, work: Work) -> [u32; 3] {
        let fold = |groups: u64| {
            let y = groups.div_ceil(u64::from(WORKGROUPS_MAX)).max(1);
            [groups.div_ceil(y) as u32, y as u32, 1]
        };
        match self {
            Grid::Plane(x, y) => [x.count(work), y.count(work), 1],
            Grid::Beyond { keys, groups } => [if work.kv_len > keys { groups } else { 0 }, work.n_rows, 1],
            Grid::Volume(x, y, z) => [x.count(work), y.count(work), z.count(work)],
            Grid::Line { per_row, group } => {
                fold((u64::from(work.n_rows) * u64::from(per_row)).div_ceil(u64::from(group)))
            }
            Grid::FixedLine(groups) => fold(u64::from(groups)),
            Grid::LineByRows { groups, rows } => {
                let [x, y, _] = fold(u64::from(groups));
                [x, y, work.n_rows.div_ceil(rows)]
            }
        }
    }
}

/// A pipeline with its bind group and its grid.
#[derive(Debug)]
pub struct Dispatch {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    grid: Grid,
    kind: usize,
    section: Option<usize>,
}

impl Dispatch {
    /// Returns the variant's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.pipeline.label
    }

    /// Returns a number, counted from 0, that identifies the kernel, parameters and grid
    /// of the dispatch. In one step, dispatches with the same number do the same amount
    /// of work, regardless of their buffers.
    #[must_use]
    pub const fn kind(&self) -> usize {
        self.kind
    }

    /// Returns the section of the recording ([`Recorder::set_section`]) that contains it.
    #[must_use]
    pub const fn section(&self) -> Option<usize> {
        self.section
    }

    /// Returns its workgroup counts in a step. If one of them is 0, no workgroup runs.
    #[must_use]
    pub fn workgroups(&self, work: Work) -> [u32; 3] {
        self.grid.counts(work)
    }

    /// Encodes the dispatch unless its grid is empty. Returns whether it was encoded.
    /// Allocates nothing.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, work: Work) -> bool {
        let [x, y, z] = self.grid.counts(work);
        if x == 0 || y == 0 || z == 0 {
            return false;
        }
        pass.set_pipeline(&self.pipeline.raw);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
        true
    }
}

/// A buffer to bind, or a range of one.
#[derive(Clone, Copy, Debug)]
pub struct BoundBuffer<'a> {
    buffer: &'a GpuBuffer,
    offset: u64,
    bytes: Option<u64>,
}

impl<'a> From<&'a GpuBuffer> for BoundBuffer<'a> {
    fn from(buffer: &'a GpuBuffer) -> Self {
        BoundBuffer { buffer, offset: 0, bytes: None }
    }
}

impl<'a> BoundBuffer<'a> {
    /// Returns the range of `bytes` bytes from `offset`, which must be a multiple of 256.
    #[must_use]
    pub fn range(buffer: &'a GpuBuffer, offset: u64, bytes: u64) -> Self {
        BoundBuffer { buffer, offset, bytes: Some(bytes) }
    }

    /// Returns the number of bytes that the binding covers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.unwrap_or(self.buffer.bytes() - self.offset)
    }
}

/// Constant uniform structs, each stored once. Layers of the same shape share their
/// parameters.
pub struct Params {
    buffer: GpuBuffer,
    slots: HashMap<Vec<u8>, u64>,
    kinds: HashMap<(String, u64, Grid), usize>,
    capacity: usize,
}

impl Params {
    /// Distance between two structs in bytes: the portable alignment of uniform offsets.
    pub const SLOT_BYTES: u64 = 256;

    /// Allocates space for `capacity` different structs.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, capacity: usize) -> Result<Self> {
        let bytes = capacity as u64 * Self::SLOT_BYTES;
        let buffer = gpu.allocate("params", bytes, BufferUse::Uniform, MemoryGroup::Params)?;
        Ok(Params { buffer, slots: HashMap::new(), kinds: HashMap::new(), capacity })
    }

    fn slot(&mut self, gpu: &Gpu, bytes: &[u8]) -> Result<u64> {
        if let Some(&offset) = self.slots.get(bytes) {
            return Ok(offset);
        }
        assert!(self.slots.len() < self.capacity, "more kernel parameters than were planned for");
        assert!(bytes.len() as u64 <= Self::SLOT_BYTES, "a parameter struct outgrew its slot");
        let offset = self.slots.len() as u64 * Self::SLOT_BYTES;
        gpu.upload(&self.buffer, offset, bytes)?;
        self.slots.insert(bytes.to_vec(), offset);
        Ok(offset)
    }

    /// Returns the number that identifies this kind of dispatch.
    fn kind(&mut self, label: &str, offset: u64, grid: Grid) -> usize {
        let next = self.kinds.len();
        *self.kinds.entry((label.to_owned(), offset, grid)).or_insert(next)
    }
}

/// A recorder that collects dispatches.
pub struct Recorder<'g> {
    /// The device.
    pub gpu: &'g Gpu,
    params: &'g mut Params,
    dispatches: Vec<Dispatch>,
    section: Option<usize>,
    /// Whether shaders are compiled with bounds checks.
    pub(super) checked: bool,
}

impl<'g> Recorder<'g> {
    /// Returns an empty recording whose shaders are compiled with bounds checks.
    pub fn new(gpu: &'g Gpu, params: &'g mut Params) -> Self {
        Recorder { gpu, params, dispatches: Vec::new(), section: None, checked: true }
    }

    /// Marks the dispatches recorded from now on as part of a section. Its number has a
    /// meaning only for the caller. `None` ends the section.
    pub fn set_section(&mut self, section: Option<usize>) {
        self.section = section;
    }

    /// Compiles a variant before its first dispatch is recorded.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver refuses the shader.
    pub fn compile(&self, variant: &Variant) -> Result<()> {
        self.gpu.pipeline(variant, self.checked).map(|_| ())
    }

    /// Adds a dispatch. `params` becomes binding 0. `buffers` become the bindings from 1
    /// on, in ascending order of index.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver refuses the pipeline or the bindings.
    pub fn dispatch<P: bytemuck::Pod>(
        &mut self,
        variant: &Variant,
        params: &P,
        buffers: &[BoundBuffer<'_>],
        grid: Grid,
    ) -> Result<()> {
        let pipeline = self.gpu.pipeline(variant, self.checked)?;
        let bytes = bytemuck::bytes_of(params);
        let offset = self.params.slot(self.gpu, bytes)?;
        let all: Vec<BoundBuffer<'_>> =
            std::iter::once(BoundBuffer::range(&self.params.buffer, offset, bytes.len() as u64))
                .chain(buffers.iter().copied())
                .collect();
        assert_eq!(all.len(), pipeline.bindings.len(), "{}: number of buffers", pipeline.label);
        let mut entries = Vec::with_capacity(all.len());
        for (bound, binding) in all.iter().zip(&pipeline.bindings) {
            let limits = self.gpu.limits();
            let limit = match binding.kind {
                BindingKind::Uniform => limits.max_uniform_buffer_binding_size,
                BindingKind::Read | BindingKind::ReadWrite => self.gpu.max_binding_bytes(),
            };
            if bound.bytes() > limit {
                return Err(Error::Limits(format!(
                    "{}: binding {} needs {} bytes, the adapter permits {limit}",
                    pipeline.label,
                    binding.name,
                    bound.bytes()
                )));
            }
            entries.push(wgpu::BindGroupEntry {
                binding: binding.index,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &bound.buffer.raw,
                    offset: bound.offset,
                    size: std::num::NonZeroU64::new(bound.bytes()),
                }),
            });
        }
        let bind_group = self.gpu.create_bind_group(&pipeline.layout, &entries, &pipeline.label)?;
        let kind = self.params.kind(&pipeline.label, offset, grid);
        self.dispatches.push(Dispatch { pipeline, bind_group, grid, kind, section: self.section });
        Ok(())
    }

    /// Returns the recorded dispatches.
    #[must_use]
    pub fn finish(self) -> Vec<Dispatch> {
        self.dispatches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_fold_beyond_the_portable_limit() {
        let work = Work { n_rows: 3, kv_len: 130 };
        for (reach, groups) in [(u32::MAX, 3), (131, 3), (128, 2), (1, 1)] {
            let keys = Extent::PerKeys { keys: 64, reach };
            assert_eq!(Grid::Plane(Extent::Fixed(7), keys).counts(work), [7, groups, 1]);
        }
        let items = Extent::PerItems { per_row: 3, group: 8 };
        assert_eq!(Grid::Plane(items, Extent::Fixed(1)).counts(work), [2, 1, 1]);
        for (limit, few, many) in [(2, 0, 2), (3, 2, 0)] {
            let x = Extent::PerRowsUpTo { rows: 2, limit };
            let y = Extent::PerRowsBeyond { rows: 2, limit };
            assert_eq!(Grid::Plane(x, y).counts(work), [few, many, 1]);
        }
        assert_eq!(Grid::Beyond { keys: 129, groups: 5 }.counts(work), [5, 3, 1]);
        assert_eq!(Grid::Beyond { keys: 130, groups: 5 }.counts(work)[0], 0);
        assert_eq!(Grid::Line { per_row: 10, group: 8 }.counts(work), [4, 1, 1]);
        for groups in [1, 65_535, 65_536, 128_256, 1 << 20] {
            let [x, y, z] = Grid::LineByRows { groups, rows: 2 }.counts(work);
            assert!(x <= WORKGROUPS_MAX && y <= WORKGROUPS_MAX && z == 2);
            assert!(x * y >= groups && (x * y) - groups < y, "{groups}: {x} x {y}");
        }
    }
}
