//! The pages that one sequence holds of one pool.

use super::pool::KvPool;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer};
use crate::kernels::PAGE_SIZE;

/// The pages of one sequence for one group of layers, in order of position. It must be
/// given back by [`PageList::truncate`] to 0 before it is dropped, unless its pool is
/// gone.
///
/// Where the group has a window, pages that no position to come can see are given back
/// as the sequence grows.
#[derive(Debug)]
pub struct PageList {
    pages: Vec<u32>,
    /// Pages at the beginning that were given back; their numbers mean nothing.
    n_gone: usize,
    /// Positions that the group's layers see, their own included.
    window: Option<usize>,
    /// Which pool the pages are of; 0 before there was any.
    pool: u64,
}

/// Positions in front of a window that are kept: so many tokens can be taken back
/// (drafts, steps ahead, the last token that is scored again) without computing the
/// sequence anew.
pub(in crate::model) const WINDOW_SLACK: usize = 64;

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
        self.pool == pool.id()
    }

    /// Whether pages of the pool are there for `len` positions, as far as a position
    /// behind them sees.
    #[must_use]
    pub fn holds(&self, pool: &KvPool, len: usize) -> bool {
        let there = self.pages.len() >= len.div_ceil(PAGE_SIZE) && self.n_gone <= self.first_seen(len);
        len == 0 || (self.is_of(pool) && there)
    }

    /// Pages at the beginning that were given back because they fell out of the window.
    #[must_use]
    pub fn n_gone(&self) -> usize {
        self.n_gone
    }

    /// The page of each run of [`PAGE_SIZE`] positions; the first [`PageList::n_gone`]
    /// mean nothing.
    #[must_use]
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Whether an empty list may begin behind `n_gone` pages, for a sequence of `len`
    /// positions: none of them is within reach.
    #[must_use]
    pub fn may_skip(&self, n_gone: usize, len: usize) -> bool {
        n_gone <= self.first_seen(len)
    }

    /// Lets an empty list begin behind `n_gone` pages, which it never takes.
    ///
    /// # Panics
    /// When it is not empty.
    pub(super) fn skip(&mut self, pool: &KvPool, n_gone: usize) {
        assert!(self.pages.is_empty(), "the list has pages");
        self.pages.resize(n_gone, 0);
        self.n_gone = n_gone;
        self.pool = pool.id();
    }

    /// The page table's entries; those of pages that were given back are 0, a page
    /// that kernels do not look into.
    pub(in crate::model) fn entries(&self, pool: &KvPool) -> impl Iterator<Item = u32> {
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
            pool.share(page);
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
            self.pool = pool.id();
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
