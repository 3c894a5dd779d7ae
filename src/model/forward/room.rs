//! How the pool of pages grows, within the budget, and shrinks.

use std::ops::ControlFlow;

use super::super::Model;
use super::super::recordings::{Recording, Recordings};
use super::Forward;
use crate::error::{Error, Result};
use crate::gpu::Gpu;

impl Forward {
    /// Sees to it that `wanted` pages are free. The pool doubles where the budget and
    /// the device's limits and memory permit, so that growth stays rare.
    ///
    /// A pass that was begun ends first: what follows overwrites its activations.
    ///
    /// # Errors
    /// [`Error::Limits`] when the budget or the device's bindings hold no more; as
    /// [`Gpu::allocate`].
    pub(in crate::model) fn make_room(&mut self, gpu: &Gpu, model: &Model, wanted: usize) -> Result<()> {
        self.end_begun(gpu, model);
        if wanted <= self.pool.n_free() {
            return Ok(());
        }
        let n_pages = self.pool.n_pages();
        let least = n_pages - self.pool.n_free() + wanted;
        let wished = (2 * n_pages).max(self.dims.initial_pages).min(self.pool.n_pages_max()).max(least);
        let target = self.within_budget(least, wished)?;
        let pool = match self.pool.grown(gpu, target) {
            Err(_) if target > least => self.pool.grown(gpu, least)?,
            pool => pool?,
        };
        let Forward { dims, buffers, params, head_rows, .. } = self;
        let head_rows = *head_rows;
        let recording = Recording { gpu, model, dims, buffers, pool: &pool, params, head_rows };
        self.recordings = recording.all(&mut |_| ControlFlow::Continue(()))?;
        self.pool = pool;
        Ok(())
    }

    /// The most pages from `least` to `wished` to which the pool may grow: old and new
    /// slabs exist side by side for a moment.
    fn within_budget(&self, least: usize, wished: usize) -> Result<usize> {
        let Some(budget) = self.dims.memory_budget() else { return Ok(wished) };
        let held = self.dims.bytes_beside_pool() + self.pool.bytes();
        let fits = |n_pages: usize| held + self.pool.growth_bytes(n_pages) <= budget;
        if !fits(least) {
            return Err(Error::Limits(format!(
                "the KV cache is full: {least} pages are wanted, of {} that there are; growing takes {} bytes beside \
                 the {held} in use, the memory budget is {budget}: drop or truncate sessions, or raise the budget",
                self.pool.n_pages(),
                self.pool.growth_bytes(least),
            )));
        }
        let (mut fitting, mut last) = (least, wished);
        while fitting < last {
            let middle = (fitting + last).div_ceil(2);
            if fits(middle) { fitting = middle } else { last = middle - 1 }
        }
        Ok(fitting)
    }

    /// Gives the memory of a pool that had grown back to the driver, once no sequence
    /// holds a page. A failure costs nothing: the next step then grows the pool anew.
    pub fn shrink(&mut self, gpu: &Gpu, model: &Model) {
        let initial_pages = self.dims.initial_pages;
        let held = self.pool.n_free() < self.pool.n_pages() || self.has_begun();
        if held || self.pool.n_pages() <= initial_pages {
            return;
        }
        // Bindings hold the slabs, so that recordings go as well.
        self.recordings = Recordings::default();
        self.pool.clear();
        // Nothing waits for the pages here.
        let _ = self.make_room(gpu, model, initial_pages);
    }
}
