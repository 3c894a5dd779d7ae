//! A paged cache whose pages are scattered over slabs.

use std::fmt;

use super::data::Random;
use crate::kernels::{PAGE_SIZE, page_entry};
use crate::tensor::{DType, pad_row};

/// Shape of one layer's cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvShape {
    /// Heads.
    pub n_head: usize,
    /// Elements of a head, without padding.
    pub head_dim: usize,
    /// Element type.
    pub dtype: DType,
    /// Buffers of pages.
    pub n_slabs: usize,
}

impl fmt::Display for KvShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KvShape { n_head, head_dim, dtype, n_slabs } = self;
        write!(f, "{n_head}x{head_dim} {dtype} slabs={n_slabs}")
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
    /// places there, with one page a slab that belongs to nobody.
    pub(super) fn scattered(shape: KvShape, n_positions: usize, random: &mut Random) -> Self {
        let n_pages = n_positions.div_ceil(PAGE_SIZE);
        let pages_per_slab = n_pages.div_ceil(shape.n_slabs) + 1;
        let orders: Vec<_> = (0..shape.n_slabs).map(|_| random.permutation(pages_per_slab)).collect();
        let place = |i: usize| (i % shape.n_slabs, orders[i % shape.n_slabs][i / shape.n_slabs]);
        let places: Vec<_> = (0..n_pages).map(place).collect();
        let entries = places.iter().map(|&(slab, page)| page_entry(slab, page)).collect();
        Pages { shape, entries, places, pages_per_slab }
    }

    /// Elements of a slab.
    pub(super) fn slab_elems(&self) -> usize {
        self.pages_per_slab * 2 * self.shape.n_head * PAGE_SIZE * pad_row(self.shape.head_dim)
    }

    /// Slab of a position and the index there of the head's first element in
    /// k (part 0) or v (part 1).
    pub(super) fn locate(&self, part: usize, position: usize, head: usize) -> (usize, usize) {
        let (slab, page) = self.places[position / PAGE_SIZE];
        let run = (page * 2 + part) * self.shape.n_head + head;
        (slab, (run * PAGE_SIZE + position % PAGE_SIZE) * pad_row(self.shape.head_dim))
    }
}
