//! The pages that one sequence holds in one pool.

use super::pool::KvPool;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer};
use crate::kernels::PAGE_SIZE;

/// The pages of one sequence for one group of layers, in order of position. Release them
/// with [`PageList::truncate`] to 0 before dropping the list, unless its pool is gone.
///
/// If the group has a window, pages that no future position can see are released as the
/// sequence grows.
#[derive(Debug)]
pub struct PageList {
    pages: Vec<u32>,
    /// Number of pages at the beginning that are not held. Their entries have no meaning.
    n_absent: usize,
    /// Number of positions that the group's layers see, including the current one; `None`
    /// for all.
    window: Option<usize>,
    /// The id of the pages' pool; 0 before the list first took pages.
    pool: u64,
}

/// Positions kept before a window. Up to this many tokens can be removed without
/// recomputing the sequence: draft tokens, steps ahead, or a last token that is scored
/// again.
pub(in crate::model) const WINDOW_SLACK: usize = 64;

impl PageList {
    /// Creates an empty list with capacity for `n_ctx` positions, so that growth
    /// allocates nothing on the host.
    #[must_use]
    pub fn with_capacity(n_ctx: usize, window: Option<usize>) -> Self {
        PageList { pages: Vec::with_capacity(n_ctx.div_ceil(PAGE_SIZE)), n_absent: 0, window, pool: 0 }
    }

    /// Returns the first page that position `len` sees.
    fn first_seen(&self, len: usize) -> usize {
        self.window.map_or(0, |window| (len + 1).saturating_sub(window) / PAGE_SIZE)
    }

    /// Returns the number of pages that an empty list skips when it begins at position
    /// `len`, as calibration does; 0 for a list that is not empty.
    fn skipped(&self, len: usize) -> usize {
        if self.pages.is_empty() { self.first_seen(len.saturating_sub(WINDOW_SLACK)) } else { 0 }
    }

    /// Returns the pages that may be released before the computation of positions from
    /// `len` on.
    fn out_of_reach(&self, len: usize) -> std::ops::Range<usize> {
        let end = self.first_seen(len.saturating_sub(WINDOW_SLACK)).min(self.pages.len());
        self.n_absent..end.max(self.n_absent)
    }

    /// Returns whether the pages belong to `pool`, even if it has grown since.
    fn is_of(&self, pool: &KvPool) -> bool {
        self.pool == pool.id()
    }

    /// Returns whether the list holds pages of `pool` for `len` positions, as far back as
    /// the next position sees.
    #[must_use]
    pub fn holds(&self, pool: &KvPool, len: usize) -> bool {
        let complete = self.pages.len() >= len.div_ceil(PAGE_SIZE) && self.n_absent <= self.first_seen(len);
        len == 0 || (self.is_of(pool) && complete)
    }

    /// Returns the number of pages at the beginning that are not held, because they are
    /// outside the window.
    #[must_use]
    pub fn n_absent(&self) -> usize {
        self.n_absent
    }

    /// Returns the page of each run of [`PAGE_SIZE`] positions. The first
    /// [`PageList::n_absent`] entries have no meaning.
    #[must_use]
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Returns whether an empty list for a sequence of `len` positions may begin after
    /// `n_absent` pages. The next position must see none of them.
    #[must_use]
    pub fn may_skip(&self, n_absent: usize, len: usize) -> bool {
        n_absent <= self.first_seen(len)
    }

    /// Makes an empty list begin after `n_absent` pages. It never takes these pages.
    ///
    /// # Panics
    /// If the list is not empty.
    pub(super) fn skip(&mut self, pool: &KvPool, n_absent: usize) {
        assert!(self.pages.is_empty(), "the list has pages");
        self.pages.resize(n_absent, 0);
        self.n_absent = n_absent;
        self.pool = pool.id();
    }

    /// Returns the page table entries. Pages that are not held have entry 0, which
    /// kernels do not read.
    pub(in crate::model) fn entries(&self, pool: &KvPool) -> impl Iterator<Item = u32> {
        let held = self.pages[self.n_absent..].iter().map(|&page| pool.entry(page));
        std::iter::repeat_n(0, self.n_absent).chain(held)
    }

    /// Returns a second list of the same pages. It is empty if they belong to another
    /// pool.
    #[must_use]
    pub fn fork(&self, pool: &mut KvPool) -> Self {
        let mut pages = Vec::with_capacity(self.pages.capacity());
        if self.is_of(pool) {
            pages.extend_from_slice(&self.pages);
        }
        let n_absent = self.n_absent.min(pages.len());
        for &page in &pages[n_absent..] {
            pool.share(page);
        }
        PageList { pages, n_absent, window: self.window, pool: self.pool }
    }

    /// Releases the pages after the first `len` positions. If the pages belong to another
    /// pool, that pool is gone, and the list is cleared.
    pub fn truncate(&mut self, pool: &mut KvPool, len: usize) {
        if !self.is_of(pool) {
            self.pages.clear();
            self.n_absent = 0;
            return;
        }
        let keep = len.div_ceil(PAGE_SIZE).min(self.pages.len());
        let held = keep.max(self.n_absent).min(self.pages.len());
        self.pages.drain(held..).for_each(|page| pool.release(page));
        self.pages.truncate(keep);
        if keep == 0 {
            self.n_absent = 0;
        }
    }

    /// Returns the number of free pages that [`PageList::reserve`] needs to add `n_new`
    /// positions after the first `len`.
    #[must_use]
    pub fn pages_wanted(&self, pool: &KvPool, len: usize, n_new: usize) -> usize {
        if !self.is_of(pool) {
            return n_new.div_ceil(PAGE_SIZE);
        }
        let more = (len + n_new).div_ceil(PAGE_SIZE).saturating_sub(self.pages.len().max(self.skipped(len)));
        let gone = self.pages[self.out_of_reach(len)].iter().filter(|&&page| !pool.is_shared(page)).count();
        (more + usize::from(self.shared_tail(pool, len).is_some())).saturating_sub(gone)
    }

    /// Returns the index of the page of position `len` if the list has that page and
    /// another sequence holds it too. The list has it if the page is partly filled or if
    /// the position is rewritten.
    fn shared_tail(&self, pool: &KvPool, len: usize) -> Option<usize> {
        let index = len / PAGE_SIZE;
        self.pages.get(index).is_some_and(|&page| pool.is_shared(page)).then_some(index)
    }

    /// Makes positions `len .. len + n_new` writable. First releases pages that fell out
    /// of the window, then copies the page of position `len` if it is shared, then takes
    /// new pages. The list must hold no page after the page of position `len`. The pool
    /// must have [`PageList::pages_wanted`] free pages.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the copy fails; [`Error::DeviceLost`] if the pages belong to
    /// another pool; [`Error::Limits`] if the pool has no free page.
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
            self.pool = pool.id();
        } else if !self.is_of(pool) {
            return Err(Error::engine_moved());
        }
        if self.pages.is_empty() {
            self.n_absent = self.skipped(len);
            self.pages.resize(self.n_absent, 0);
        }
        let gone = self.out_of_reach(len);
        self.n_absent = gone.end;
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
