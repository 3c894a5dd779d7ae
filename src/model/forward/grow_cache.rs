//! Grows the page pools within the memory budget, and shrinks them.

use std::ops::ControlFlow;

use super::super::Model;
use super::super::kv_cache::GroupPages;
use super::super::recordings::{Recording, Recordings};
use super::Forward;
use crate::error::{Error, Result};

impl Forward {
    /// Ensures that `wanted` pages of each group are free. A pool that must grow doubles
    /// its size if the memory budget, the device's limits and its memory allow it, so
    /// growth is rare.
    ///
    /// An unfinished pass is finished first, because the following work overwrites its
    /// activations.
    ///
    /// # Errors
    /// [`Error::Limits`] if the memory budget or the device's bindings allow no more;
    /// as [`crate::gpu::Gpu::allocate`].
    pub(in crate::model) fn ensure_free_pages(&mut self, model: &Model, wanted: GroupPages) -> Result<()> {
        self.finish_unfinished(model);
        if self.cache.has_free(wanted) {
            return Ok(());
        }
        let mut minimum = self.cache.n_pages();
        let mut preferred = minimum;
        for (group, pool) in self.cache.pools().iter().enumerate() {
            if wanted[group] > pool.n_free() {
                minimum[group] += wanted[group] - pool.n_free();
                let double = (2 * pool.n_pages()).max(self.dims.initial_pages[group]);
                preferred[group] = double.min(pool.n_pages_max()).max(minimum[group]);
            }
        }
        let target = self.within_memory_budget(minimum, preferred)?;
        let cache = match self.cache.grown(&model.gpu, target) {
            Err(_) if target != minimum => self.cache.grown(&model.gpu, minimum)?,
            cache => cache?,
        };
        let Forward { dims, buffers, params, head_rows, .. } = self;
        let head_rows = *head_rows;
        let recording =
            Recording { model, choices: &model.choices, dims, buffers, cache: &cache, params, head_rows };
        self.recordings = recording.all(&mut |_| ControlFlow::Continue(()))?;
        self.cache = cache;
        Ok(())
    }

    /// Returns the maximum number of pages between `minimum` and `preferred` that the
    /// memory budget allows, one group after the other. During growth, old and new slabs
    /// exist at the same time.
    fn within_memory_budget(&self, minimum: GroupPages, preferred: GroupPages) -> Result<GroupPages> {
        let Some(budget) = self.dims.memory_budget() else { return Ok(preferred) };
        let held = self.dims.bytes_without_pools() + self.cache.bytes();
        let fits = |n_pages: GroupPages| held + self.cache.growth_bytes(n_pages) <= budget;
        if !fits(minimum) {
            let sum = |pages: GroupPages| pages.iter().sum::<usize>();
            return Err(Error::Limits(format!(
                "the KV cache is full: {} pages are needed, but there are {}; growing takes {} bytes in \
                 addition to the {held} in use, and the memory budget is {budget}: drop or truncate \
                 sessions, or raise ModelOptions::memory_budget",
                sum(minimum),
                sum(self.cache.n_pages()),
                self.cache.growth_bytes(minimum),
            )));
        }
        let mut fitting = minimum;
        for (group, mut last) in preferred.into_iter().enumerate() {
            while fitting[group] < last {
                let mut middle = fitting;
                middle[group] = (fitting[group] + last).div_ceil(2);
                if fits(middle) { fitting = middle } else { last = middle[group] - 1 }
            }
        }
        Ok(fitting)
    }

    /// Shrinks grown pools to their initial size, which frees GPU memory. Does nothing
    /// while a sequence holds a page or a pass is unfinished. A failure is harmless: the
    /// next step grows the pools again.
    pub fn shrink(&mut self, model: &Model) {
        let initial_pages = self.dims.initial_pages;
        let grown = self.cache.n_pages().iter().zip(initial_pages).any(|(&now, at_first)| now > at_first);
        if !grown || !self.cache.is_unused() || self.has_unfinished() {
            return;
        }
        // The bind groups of the recordings keep the slabs alive, so they are dropped as
        // well.
        self.recordings = Recordings::default();
        self.cache.clear();
        // An error is ignored, because nothing needs the pages yet.
        let _ = self.ensure_free_pages(model, initial_pages);
    }
}
