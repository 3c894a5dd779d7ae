//! The pages of one group of layers on the GPU, with reference counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::gpu::{BufferUse, Gpu, GpuBuffer, MemoryGroup};
use crate::kernels::{PAGE_SIZE, SLABS_MAX, page_entry};
use crate::model::dims::Dims;

/// Number of spare buffers that kernels bind in place of missing slabs once there are
/// several slabs. A kernel that writes must not bind a buffer twice. At least two slabs
/// exist then.
pub(in crate::model) const SPARE_SLABS: usize = SLABS_MAX - 2;
/// Bytes of a spare slab: one pack of eight f32, the minimum that a kernel may bind.
/// Nothing is ever stored there.
pub(in crate::model) const SPARE_SLAB_BYTES: u64 = 8 * size_of::<f32>() as u64;

/// The pages of all sequences for the layers of one [`super::KvGroup`], with reference
/// counts.
///
/// A page holds [`PAGE_SIZE`] positions of every layer of the group. Page `id` is stored
/// in slab `id / pages_per_slab` of each layer.
#[derive(Clone, Debug)]
pub struct KvPool {
    /// Distinguishes pools. Page numbers of one pool have no meaning in another.
    id: u64,
    /// `[n_layer][n_slabs]` buffers.
    layers: Vec<Vec<GpuBuffer>>,
    /// Buffers that writing kernels bind in place of missing slabs.
    spare_slabs: Vec<GpuBuffer>,
    page_bytes: u64,
    pages_per_slab: usize,
    ref_counts: Vec<u32>,
    free: Vec<u32>,
}

impl KvPool {
    /// Creates an empty pool for `n_layer` layers.
    pub(super) fn new(dims: &Dims, n_layer: usize) -> Self {
        static POOLS: AtomicU64 = AtomicU64::new(1);
        KvPool {
            id: POOLS.fetch_add(1, Ordering::Relaxed),
            layers: (0..n_layer).map(|_| Vec::new()).collect(),
            spare_slabs: Vec::new(),
            page_bytes: dims.page_bytes,
            pages_per_slab: dims.pages_per_slab,
            ref_counts: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Returns the slabs of one of the group's layers.
    #[must_use]
    pub fn slabs(&self, layer: usize) -> &[GpuBuffer] {
        &self.layers[layer]
    }

    /// Returns the buffers that replace missing slabs.
    #[must_use]
    pub fn spare_slabs(&self) -> &[GpuBuffer] {
        &self.spare_slabs
    }

    /// Returns the number of pages that no sequence holds.
    #[must_use]
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Returns the total number of pages.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.ref_counts.len()
    }

    /// Returns the page table entry for a page.
    #[must_use]
    pub fn entry(&self, page: u32) -> u32 {
        page_entry(page as usize / self.pages_per_slab, page as usize % self.pages_per_slab)
    }

    /// Returns the maximum number of pages that the pool may grow to. They fill
    /// [`SLABS_MAX`] bindings.
    #[must_use]
    pub fn n_pages_max(&self) -> usize {
        self.pages_per_slab * SLABS_MAX
    }

    /// Returns a copy of the pool grown to `n_pages`. Pages keep their numbers and
    /// contents. The last slab is copied into a larger one until it fills a binding; then
    /// slabs are added. `self` is unchanged, so a failure loses nothing. The caller
    /// switches to the copy after all passes are recorded with it.
    ///
    /// # Errors
    /// [`Error::Limits`] beyond [`KvPool::n_pages_max`]; as [`Gpu::allocate`].
    pub fn grown(&self, gpu: &Gpu, n_pages: usize) -> Result<Self> {
        let most = self.n_pages_max();
        if n_pages > most {
            return Err(Error::Limits(format!(
                "the KV cache is full: {n_pages} pages of {PAGE_SIZE} positions are needed, but this \
                 device's bindings hold {most}: drop or truncate sessions"
            )));
        }
        let mut new = self.clone();
        let allocate = |label, bytes| gpu.allocate(label, bytes, BufferUse::Storage, MemoryGroup::KvCache);
        let n_slabs = n_pages.div_ceil(self.pages_per_slab);
        for slabs in &mut new.layers {
            for slab in 0..n_slabs {
                let pages = (n_pages - slab * self.pages_per_slab).min(self.pages_per_slab);
                let bytes = pages as u64 * self.page_bytes;
                match slabs.get_mut(slab) {
                    Some(old) if old.bytes() >= bytes => {}
                    Some(old) => {
                        let larger = allocate("kv slab", bytes)?;
                        gpu.copy(&[(old, 0, &larger, 0, old.bytes())])?;
                        *old = larger;
                    }
                    None => slabs.push(allocate("kv slab", bytes)?),
                }
            }
        }
        while n_slabs > 1 && new.spare_slabs.len() < SPARE_SLABS {
            new.spare_slabs.push(allocate("kv spare slab", SPARE_SLAB_BYTES)?);
        }
        let first = self.n_pages();
        new.ref_counts.resize(n_pages, 0);
        // The lowest of the new pages is taken first.
        new.free.splice(0..0, (first as u32..n_pages as u32).rev());
        Ok(new)
    }

    /// Returns the bytes of all slabs, spare ones included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let slabs = self.layers.iter().flatten().chain(&self.spare_slabs);
        slabs.map(GpuBuffer::bytes).sum()
    }

    /// Returns the bytes that [`KvPool::grown`] would allocate.
    #[must_use]
    pub fn growth_bytes(&self, n_pages: usize) -> u64 {
        let pages_in = |n_pages: usize, slab: usize| {
            n_pages.saturating_sub(slab * self.pages_per_slab).min(self.pages_per_slab)
        };
        let n_slabs = n_pages.div_ceil(self.pages_per_slab);
        let new_pages: usize = (0..n_slabs)
            .map(|slab| pages_in(n_pages, slab))
            .zip((0..n_slabs).map(|slab| pages_in(self.n_pages(), slab)))
            .map(|(new, old)| if new > old { new } else { 0 })
            .sum();
        let spare = if n_slabs > 1 { SPARE_SLABS - self.spare_slabs.len() } else { 0 };
        new_pages as u64 * self.page_bytes * self.layers.len() as u64 + spare as u64 * SPARE_SLAB_BYTES
    }

    /// Drops all slabs. No sequence may hold a page. Page lists of this pool stay valid.
    pub(super) fn clear(&mut self) {
        assert_eq!(self.n_free(), self.n_pages(), "a page is held");
        self.layers.iter_mut().for_each(Vec::clear);
        self.spare_slabs.clear();
        self.ref_counts.clear();
        self.free.clear();
    }

    /// Returns the id that distinguishes this pool from others.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.ref_counts[page as usize] = 1;
        Some(page)
    }

    /// Counts one more holder of a page.
    pub(super) fn share(&mut self, page: u32) {
        self.ref_counts[page as usize] += 1;
    }

    pub(super) fn release(&mut self, page: u32) {
        let count = &mut self.ref_counts[page as usize];
        *count -= 1;
        if *count == 0 {
            self.free.push(page);
        }
    }

    pub(super) fn is_shared(&self, page: u32) -> bool {
        self.ref_counts[page as usize] > 1
    }

    /// Returns a page's slab, and its offset there in bytes.
    pub(in crate::model) fn place(&self, page: u32) -> (usize, u64) {
        let page = page as usize;
        (page / self.pages_per_slab, (page % self.pages_per_slab) as u64 * self.page_bytes)
    }

    /// Copies one page in every layer of the group, through `scratch`.
    pub(super) fn copy_page(&self, gpu: &Gpu, from: u32, to: u32, scratch: &GpuBuffer) -> Result<()> {
        let ((from_slab, from_offset), (to_slab, to_offset)) = (self.place(from), self.place(to));
        for slabs in &self.layers {
            gpu.copy(&[
                (&slabs[from_slab], from_offset, scratch, 0, self.page_bytes),
                (scratch, 0, &slabs[to_slab], to_offset, self.page_bytes),
            ])?;
        }
        Ok(())
    }
}
