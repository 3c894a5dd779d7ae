//! The layout of the paged KV cache, which shaders and host share.

use crate::gpu::{BoundBuffer, GpuBuffer};
use crate::tensor::DType;

/// Positions per page. Small pages waste little memory in a short session, and a fork
/// copies little. The per-thread prefill kernel needs a multiple of 8.
pub const PAGE_SIZE: usize = 16;

/// Maximum number of buffers of one layer's pool. With q, k, v, the page table and two
/// outputs, the decode kernel then binds the portable eight.
pub const SLABS_MAX: usize = 4;

/// Returns a page table entry: slab in the upper 8 bits, page in the lower 24.
#[must_use]
pub fn page_entry(slab: usize, page: usize) -> u32 {
    assert!(slab < SLABS_MAX && page < 1 << 24, "page {page} of slab {slab} has no entry");
    (slab as u32) << 24 | page as u32
}

/// Returns the bytes of one page of one layer: `[2, n_kv_head, PAGE_SIZE, head_dim]`.
#[must_use]
pub fn page_pack_bytes(n_kv_head: usize, head_dim: usize, dtype: DType) -> u64 {
    (2 * n_kv_head * PAGE_SIZE * head_dim * dtype.size_bytes()) as u64
}

/// The cache of one layer, as kernels bind it.
#[derive(Clone, Copy, Debug)]
pub struct PagedKv<'a> {
    /// `[pages of the step's sequences]`, u32 entries. Entries of pages that are entirely
    /// before the window are not read.
    pub page_table: &'a GpuBuffer,
    /// One to [`SLABS_MAX`] buffers of pages.
    pub slabs: &'a [GpuBuffer],
    /// Element type.
    pub dtype: DType,
    /// KV heads.
    pub n_kv_head: usize,
    /// Elements of a head with padding: a multiple of 8.
    pub head_dim: usize,
}

impl<'a> PagedKv<'a> {
    /// Returns the length of a row of q, k and v, `[n_head + 2 n_kv_head, head_dim]`,
    /// divided by 4.
    pub(super) fn qkv_stride4(&self, n_head: usize) -> u32 {
        ((n_head + 2 * self.n_kv_head) * self.head_dim / 4) as u32
    }

    /// Returns the slabs as bindings: one or four. If there are two or three, the last
    /// one is repeated, and no page table entry refers to the repetition.
    pub(super) fn read_bindings(&self) -> Vec<BoundBuffer<'a>> {
        self.bindings(|i| &self.slabs[i.min(self.slabs.len() - 1)])
    }

    /// As [`PagedKv::read_bindings`], for writing. A buffer must not be bound twice for
    /// writing, so the caller provides `spare` buffers for the missing slabs.
    pub(super) fn write_bindings(&self, spare: &'a [GpuBuffer]) -> Vec<BoundBuffer<'a>> {
        self.bindings(|i| self.slabs.get(i).unwrap_or_else(|| &spare[i - self.slabs.len()]))
    }

    fn bindings(&self, slab: impl Fn(usize) -> &'a GpuBuffer) -> Vec<BoundBuffer<'a>> {
        let n = if self.slabs.len() == 1 { 1 } else { SLABS_MAX };
        (0..n).map(|i| slab(i).into()).collect()
    }
}
