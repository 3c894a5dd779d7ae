//! The pool of KV pages on the GPU and the page lists of sequences.

use std::sync::atomic::{AtomicU64, Ordering};

use super::dims::Dims;
use crate::error::{Error, Result};
use crate::gpu::{BufferUse, Gpu, GpuBuffer, MemoryGroup};
use crate::kernels::{PAGE_SIZE, SLABS_MAX, page_entry};

/// Buffers that stand in for slabs that do not exist, once there are several:
/// kernels that write may bind no buffer twice, and two slabs are real by then.
pub(super) const SPARE_SLABS: usize = SLABS_MAX - 2;
/// One pack of eight f32, the least that a kernel may bind; nothing is ever
/// stored there.
pub(super) const SPARE_SLAB_BYTES: u64 = 8 * size_of::<f32>() as u64;

/// Pages of all sequences, with reference counts.
///
/// A page holds [`PAGE_SIZE`] positions of every layer. Page `id` lies in slab
/// `id / pages_per_slab` of each layer.
#[derive(Clone, Debug)]
pub struct KvPool {
    /// Tells pools apart: pages of one mean nothing in another.
    id: u64,
    /// `[n_layer][n_slabs]` buffers.
    layers: Vec<Vec<GpuBuffer>>,
    /// What kernels that write bind in place of slabs that do not exist.
    spare_slabs: Vec<GpuBuffer>,
    page_bytes: u64,
    pages_per_slab: usize,
    ref_counts: Vec<u32>,
    free: Vec<u32>,
}

impl KvPool {
    /// A pool with the pages of one context.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, dims: &Dims, n_layer: usize) -> Result<Self> {
        static POOLS: AtomicU64 = AtomicU64::new(1);
        let empty = KvPool {
            id: POOLS.fetch_add(1, Ordering::Relaxed),
            layers: (0..n_layer).map(|_| Vec::new()).collect(),
            spare_slabs: Vec::new(),
            page_bytes: dims.page_bytes,
            pages_per_slab: dims.pages_per_slab,
            ref_counts: Vec::new(),
            free: Vec::new(),
        };
        empty.grown(gpu, dims.initial_pages)
    }

    /// One layer's slabs.
    #[must_use]
    pub fn slabs(&self, layer: usize) -> &[GpuBuffer] {
        &self.layers[layer]
    }

    /// Buffers that stand in for missing slabs.
    #[must_use]
    pub fn spare_slabs(&self) -> &[GpuBuffer] {
        &self.spare_slabs
    }

    /// Pages that no sequence holds.
    #[must_use]
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Pages in all.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.ref_counts.len()
    }

    /// The page table's entry for a page.
    #[must_use]
    pub fn entry(&self, page: u32) -> u32 {
        page_entry(page as usize / self.pages_per_slab, page as usize % self.pages_per_slab)
    }

    /// Pages that the pool may grow to: [`SLABS_MAX`] bindings.
    #[must_use]
    pub fn n_pages_max(&self) -> usize {
        self.pages_per_slab * SLABS_MAX
    }

    /// The pool with `n_pages`: pages keep their numbers and contents, the last
    /// slab is copied into a larger one until it fills a binding, then slabs are
    /// added. The pool itself stays as it is, so that a failure loses nothing;
    /// the caller takes the new one once all passes are recorded against it.
    ///
    /// # Errors
    /// [`Error::Limits`] beyond [`KvPool::n_pages_max`]; as [`Gpu::allocate`].
    pub fn grown(&self, gpu: &Gpu, n_pages: usize) -> Result<Self> {
        let most = self.n_pages_max();
        if n_pages > most {
            return Err(Error::Limits(format!(
                "the KV cache is full: {n_pages} pages of {PAGE_SIZE} positions are wanted, this device's \
                 bindings hold {most}: drop or truncate sessions"
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
        // The lowest page is taken first.
        new.free.splice(0..0, (first as u32..n_pages as u32).rev());
        Ok(new)
    }

    /// Bytes of all slabs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let slabs = self.layers.iter().flatten().chain(&self.spare_slabs);
        slabs.map(GpuBuffer::bytes).sum()
    }

    /// Bytes that [`KvPool::grown`] allocates beside those that there are.
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

    /// Drops all slabs; no sequence may hold a page. Page lists stay this pool's.
    pub(super) fn clear(&mut self) {
        assert_eq!(self.n_free(), self.n_pages(), "a page is held");
        self.layers.iter_mut().for_each(Vec::clear);
        self.spare_slabs.clear();
        self.ref_counts.clear();
        self.free.clear();
    }

    fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.ref_counts[page as usize] = 1;
        Some(page)
    }

    fn release(&mut self, page: u32) {
        let count = &mut self.ref_counts[page as usize];
        *count -= 1;
        if *count == 0 {
            self.free.push(page);
        }
    }

    fn is_shared(&self, page: u32) -> bool {
        self.ref_counts[page as usize] > 1
    }

    /// A page's slab and where it begins there, in bytes.
    pub(super) fn place(&self, page: u32) -> (usize, u64) {
        let page = page as usize;
        (page / self.pages_per_slab, (page % self.pages_per_slab) as u64 * self.page_bytes)
    }

    /// Copies one page in every layer, by way of `scratch`.
    fn copy_page(&self, gpu: &Gpu, from: u32, to: u32, scratch: &GpuBuffer) -> Result<()> {
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

/// The pages of one sequence, in order of position. It must be given back by
/// [`PageList::truncate`] to 0 before it is dropped, unless its pool is gone.
///
/// Where every layer has a window, pages that no position to come can see are given
/// back as the sequence grows.
#[derive(Debug, Default)]
pub struct PageList {
    pages: Vec<u32>,
    /// Pages at the beginning that were given back; their numbers mean nothing.
    n_gone: usize,
    /// Positions that the layer with the longest reach sees, its own included.
    window: Option<usize>,
    /// [`KvPool::id`] of the pages; 0 before there was any.
    pool: u64,
}

/// Positions in front of a window that are kept: so many tokens can be taken back
/// (drafts, steps ahead, the last token that is scored again) without computing the
/// sequence anew.
pub(super) const WINDOW_SLACK: usize = 64;

impl PageList {
    /// An empty list with room for `n_ctx` positions, so that growing
    /// allocates nothing.
    #[must_use]
    pub fn with_capacity(n_ctx: usize, window: Option<usize>) -> Self {
        PageList { pages: Vec::with_capacity(n_ctx.div_ceil(PAGE_SIZE)), n_gone: 0, window, pool: 0 }
    }

    /// The first page that position `len` sees.
    fn first_seen(&self, len: usize) -> usize {
        self.window.map_or(0, |window| (len + 1).saturating_sub(window) / PAGE_SIZE)
    }

    /// Pages that an empty list never takes when it begins at position `len`, as a
    /// calibration does.
    fn skipped(&self, len: usize) -> usize {
        if self.pages.is_empty() { self.first_seen(len.saturating_sub(WINDOW_SLACK)) } else { 0 }
    }

    /// Pages that may be given back before positions from `len` on are computed.
    fn out_of_reach(&self, len: usize) -> std::ops::Range<usize> {
        let end = self.first_seen(len.saturating_sub(WINDOW_SLACK)).min(self.pages.len());
        self.n_gone..end.max(self.n_gone)
    }

    /// Whether the pages are those of a pool, whatever it has grown to.
    fn is_of(&self, pool: &KvPool) -> bool {
        self.pool == pool.id
    }

    /// Whether pages of the pool are there for `len` positions, as far as a position
    /// behind them sees.
    #[must_use]
    pub fn holds(&self, pool: &KvPool, len: usize) -> bool {
        let there = self.pages.len() >= len.div_ceil(PAGE_SIZE) && self.n_gone <= self.first_seen(len);
        len == 0 || (self.is_of(pool) && there)
    }

    /// Whether no page was given back because it fell out of the window.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.n_gone == 0
    }

    /// The pages of a whole list.
    ///
    /// # Panics
    /// When some were given back.
    #[must_use]
    pub fn pages(&self) -> &[u32] {
        assert!(self.is_whole(), "the first pages were given back");
        &self.pages
    }

    /// The page table's entries; those of pages that were given back are 0, a page
    /// that kernels do not look into.
    pub(super) fn entries(&self, pool: &KvPool) -> impl Iterator<Item = u32> {
        let held = self.pages[self.n_gone..].iter().map(|&page| pool.entry(page));
        std::iter::repeat_n(0, self.n_gone).chain(held)
    }

    /// A second list of the same pages; an empty one where they are another pool's.
    #[must_use]
    pub fn fork(&self, pool: &mut KvPool) -> Self {
        let mut pages = Vec::with_capacity(self.pages.capacity());
        if self.is_of(pool) {
            pages.extend_from_slice(&self.pages);
        }
        let n_gone = self.n_gone.min(pages.len());
        for &page in &pages[n_gone..] {
            pool.ref_counts[page as usize] += 1;
        }
        PageList { pages, n_gone, window: self.window, pool: self.pool }
    }

    /// Gives back the pages behind the first `len` positions; all, where they are
    /// another pool's, which is gone.
    pub fn truncate(&mut self, pool: &mut KvPool, len: usize) {
        if !self.is_of(pool) {
            self.pages.clear();
            self.n_gone = 0;
            return;
        }
        let keep = len.div_ceil(PAGE_SIZE).min(self.pages.len());
        let held = keep.max(self.n_gone).min(self.pages.len());
        self.pages.drain(held..).for_each(|page| pool.release(page));
        self.pages.truncate(keep);
        if keep == 0 {
            self.n_gone = 0;
        }
    }

    /// Pages that must be free for [`PageList::reserve`] to take `n_new`
    /// positions behind the first `len`.
    #[must_use]
    pub fn pages_wanted(&self, pool: &KvPool, len: usize, n_new: usize) -> usize {
        if !self.is_of(pool) {
            return n_new.div_ceil(PAGE_SIZE);
        }
        let more = (len + n_new).div_ceil(PAGE_SIZE).saturating_sub(self.pages.len().max(self.skipped(len)));
        let gone = self.pages[self.out_of_reach(len)].iter().filter(|&&page| !pool.is_shared(page)).count();
        (more + usize::from(self.shared_tail(pool, len).is_some())).saturating_sub(gone)
    }

    /// The index of the page that position `len` falls into, if there is one (it
    /// is begun, or the position is written anew) and another sequence holds it too.
    fn shared_tail(&self, pool: &KvPool, len: usize) -> Option<usize> {
        let index = len / PAGE_SIZE;
        self.pages.get(index).is_some_and(|&page| pool.is_shared(page)).then_some(index)
    }

    /// Makes positions `len .. len + n_new` writable: takes pages, and copies the
    /// page of position `len` where it is shared; before that it gives back pages that
    /// fell out of the window. The list holds no page behind that
    /// one. The pool must have [`PageList::pages_wanted`]
    /// free pages.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the copy fails; [`Error::DeviceLost`] where the pages are
    /// another pool's.
    pub fn reserve(
        &mut self,
        gpu: &Gpu,
        pool: &mut KvPool,
        len: usize,
        n_new: usize,
        scratch: &GpuBuffer,
    ) -> Result<()> {
        let full = || Error::Limits("the KV cache has no free page".into());
        if len == 0 {
            self.pool = pool.id;
        } else if !self.is_of(pool) {
            let message = "the engine moved to another device in the midst of a call".into();
            return Err(Error::DeviceLost { message });
        }
        if self.pages.is_empty() {
            self.n_gone = self.skipped(len);
            self.pages.resize(self.n_gone, 0);
        }
        let gone = self.out_of_reach(len);
        self.n_gone = gone.end;
        self.pages[gone].iter().for_each(|&page| pool.release(page));
        if let Some(index) = self.shared_tail(pool, len) {
            let own = pool.take().ok_or_else(full)?;
            if let Err(error) = pool.copy_page(gpu, self.pages[index], own, scratch) {
                pool.release(own);
                return Err(error);
            }
            pool.release(self.pages[index]);
            self.pages[index] = own;
        }
        while self.pages.len() < (len + n_new).div_ceil(PAGE_SIZE) {
            self.pages.push(pool.take().ok_or_else(full)?);
        }
        Ok(())
    }
}
