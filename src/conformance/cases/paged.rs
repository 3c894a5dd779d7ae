//! A paged KV cache whose pages are scattered over slabs.

use std::fmt;

use super::data::Random;
use crate::conformance::output::{Expected, Format, Output};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer};
use crate::kernels::{OverflowFlag, PAGE_SIZE, POSITIONS_MAX, page_entry};
use crate::tensor::{DType, pad_row};

/// Shape of one layer's KV cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvShape {
    /// Number of query heads.
    pub n_head: usize,
    /// Number of key heads, and of value heads.
    pub n_kv_head: usize,
    /// Elements per head, without padding.
    pub head_dim: usize,
    /// Data type of the elements.
    pub dtype: DType,
    /// Number of slabs: buffers that contain pages.
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

/// Places of the pages of one session.
pub(super) struct Pages {
    shape: KvShape,
    /// The page table.
    pub(super) entries: Vec<u32>,
    /// Slab and page index of each entry.
    places: Vec<(usize, usize)>,
    pages_per_slab: usize,
}

impl Pages {
    /// Creates pages for `n_positions`. Consecutive pages are in different slabs, at
    /// random indices. Each slab has one page that belongs to no sequence. In the first
    /// slab this is page 0, whose entry stands for pages that fell out of a window.
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

    /// Returns the number of elements per slab.
    pub(super) fn slab_elems(&self) -> usize {
        self.pages_per_slab * 2 * self.shape.n_kv_head * PAGE_SIZE * pad_row(self.shape.head_dim)
    }

    /// Returns the slab of a position. Also returns the index in that slab of the first
    /// element of a key/value head, in k (part 0) or v (part 1).
    pub(super) fn locate(&self, part: usize, position: usize, kv_head: usize) -> (usize, usize) {
        let (slab, page) = self.places[position / PAGE_SIZE];
        let run = (page * 2 + part) * self.shape.n_kv_head + kv_head;
        (slab, (run * PAGE_SIZE + position % PAGE_SIZE) * pad_row(self.shape.head_dim))
    }
}

/// An f16 overflow flag and its expected content after an append.
pub(super) struct Flag {
    output: Output,
    buffer: GpuBuffer,
}

/// Tag of the append.
const TAG: usize = 7;

impl Flag {
    /// Creates the flag. `overflow_positions` contains the lowest positions at which a
    /// key and a value overflow f16. Initially the word of keys is empty. The word of values
    /// contains an entry with a higher tag, which an entry of this append replaces.
    pub(super) fn new(gpu: &Gpu, overflow_positions: [Option<usize>; 2]) -> Result<Self> {
        let word = |tag: usize, position: usize| u32::MAX - (tag * POSITIONS_MAX + position) as u32;
        let initial = [0, word(TAG + 1, 0)];
        let expected = overflow_positions.into_iter().zip(initial).map(|(position, before)| {
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
