//! A paged cache whose pages are scattered over slabs.

use std::fmt;

use super::data::Random;
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer};
use crate::kernels::{OverflowFlag, PAGE_SIZE, POSITIONS_MAX, page_entry};
use crate::tensor::{DType, pad_row};
use crate::tune::output::{Expected, Format, Output};

/// Shape of one layer's cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvShape {
    /// Heads of q.
    pub n_head: usize,
    /// Heads of k and v.
    pub n_kv_head: usize,
    /// Elements of a head, without padding.
    pub head_dim: usize,
    /// Element type.
    pub dtype: DType,
    /// Buffers of pages.
    pub n_slabs: usize,
}

impl fmt::Display for KvShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KvShape { n_head, n_kv_head, head_dim, dtype, n_slabs } = self;
        write!(f, "{n_head}")?;
        if n_kv_head != n_head {
            write!(f, "/{n_kv_head}")?;
        }
        write!(f, "x{head_dim} {dtype} slabs={n_slabs}")
    }
}

/// Where the pages of one session stand.
pub(super) struct Pages {
    shape: KvShape,
    /// The page table.
    pub(super) entries: Vec<u32>,
    /// Slab and page of each entry.
    places: Vec<(usize, usize)>,
    pages_per_slab: usize,
}

impl Pages {
    /// Room for `n_positions`: neighbouring pages in different slabs, in random
    /// places there, with one page a slab that belongs to nobody. That of the first slab
    /// is page 0, whose entry stands for pages that a window has left behind.
    pub(super) fn scattered(shape: KvShape, n_positions: usize, random: &mut Random) -> Self {
        let n_pages = n_positions.div_ceil(PAGE_SIZE);
        let pages_per_slab = n_pages.div_ceil(shape.n_slabs) + 1;
        let mut orders: Vec<_> = (0..shape.n_slabs).map(|_| random.permutation(pages_per_slab)).collect();
        if let Some(at) = orders[0].iter().position(|&page| page == 0) {
            orders[0].swap(at, pages_per_slab - 1);
        }
        let place = |i: usize| (i % shape.n_slabs, orders[i % shape.n_slabs][i / shape.n_slabs]);
        let places: Vec<_> = (0..n_pages).map(place).collect();
        let entries = places.iter().map(|&(slab, page)| page_entry(slab, page)).collect();
        Pages { shape, entries, places, pages_per_slab }
    }

    /// Elements of a slab.
    pub(super) fn slab_elems(&self) -> usize {
        self.pages_per_slab * 2 * self.shape.n_kv_head * PAGE_SIZE * pad_row(self.shape.head_dim)
    }

    /// Slab of a position and the index there of a kv head's first element in
    /// k (part 0) or v (part 1).
    pub(super) fn locate(&self, part: usize, position: usize, kv_head: usize) -> (usize, usize) {
        let (slab, page) = self.places[position / PAGE_SIZE];
        let run = (page * 2 + part) * self.shape.n_kv_head + kv_head;
        (slab, (run * PAGE_SIZE + position % PAGE_SIZE) * pad_row(self.shape.head_dim))
    }
}

/// Numbers of f16 and beyond it: the largest, what still rounds to it, what does not.
pub(super) const AROUND_F16: [f32; 11] = [
    65_504.0,
    65_519.0,
    65_519.996,
    -65_519.996,
    65_520.0,
    -65_520.0,
    1e5,
    -1e5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// A flag of what f16 cannot hold, and what it must hold after an append.
pub(super) struct Flag {
    output: Output,
    buffer: GpuBuffer,
}

/// What the append is tagged with.
const TAG: usize = 7;

impl Flag {
    /// `noted`: the lowest position of a key and of a value that exceed f16. The word
    /// of keys is empty before; that of values holds a note of a higher tag, which
    /// gives way.
    pub(super) fn new(gpu: &Gpu, noted: [Option<usize>; 2]) -> Result<Self> {
        let word = |tag: usize, position: usize| u32::MAX - (tag * POSITIONS_MAX + position) as u32;
        let initial = [0, word(TAG + 1, 0)];
        let expected = noted.into_iter().zip(initial).map(|(position, before)| {
            Expected::exactly(f64::from(position.map_or(before, |position| word(TAG, position))))
        });
        let expected = expected.collect();
        let (output, buffer) =
            Output::new(gpu, "overflow", Format::U32, bytemuck::cast_slice(&initial), expected)?;
        Ok(Flag { output, buffer })
    }

    pub(super) fn bound(&self) -> OverflowFlag<'_> {
        OverflowFlag { buffer: &self.buffer, tag: TAG }
    }

    pub(super) fn output(self) -> (Output, GpuBuffer) {
        (self.output, self.buffer)
    }
}
