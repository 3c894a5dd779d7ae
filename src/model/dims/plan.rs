//! The memory plan.

use super::{Dims, Slot};
use crate::gpu::{Params, rounded_bytes};
use crate::kernels::sample::SampleScratch;
use crate::memory::{MemoryGroup, MemoryPlan, PlanEntry};
use crate::model::kv_cache::{SPARE_SLAB_BYTES, SPARE_SLABS};
use crate::model::loader::weight_bytes;

impl Dims {
    /// Lists everything that will be allocated, with exact sizes.
    #[must_use]
    pub fn plan(&self) -> MemoryPlan {
        let mut entries = vec![PlanEntry {
            group: MemoryGroup::Weights,
            name: "weights",
            bytes: weight_bytes(&self.config, self.options.dtype),
        }];
        entries.extend(self.pool_entries());
        for slot in Slot::ALL {
            let bytes = rounded_bytes(self.slot_bytes(slot));
            entries.push(PlanEntry { group: slot.group(), name: slot.name(), bytes });
        }
        if self.steps_ahead > 0 {
            let bytes = SampleScratch::bytes(self.config.vocab_size);
            entries.push(PlanEntry { group: MemoryGroup::Logits, name: "sample_scratch", bytes });
        }
        let upload = 2 * rounded_bytes(self.upload_bytes());
        entries.push(PlanEntry { group: MemoryGroup::Transfer, name: "upload", bytes: upload });
        let readback = rounded_bytes(self.readback_bytes());
        entries.push(PlanEntry { group: MemoryGroup::Transfer, name: "readback", bytes: readback });
        let params = self.params_capacity() as u64 * Params::SLOT_BYTES;
        entries.push(PlanEntry { group: MemoryGroup::Params, name: "params", bytes: params });
        MemoryPlan { entries }
    }

    /// Lists the initial allocations of the page pools.
    pub(in crate::model) fn pool_entries(&self) -> impl Iterator<Item = PlanEntry> {
        let entry = |name, bytes| PlanEntry { group: MemoryGroup::KvCache, name, bytes };
        let by_group = self.groups.iter().zip(self.initial_pages);
        let pages: usize = by_group.map(|(group, n_pages)| n_pages * group.layers.len()).sum();
        let several = self.initial_pages.iter().filter(|&&n_pages| n_pages > self.pages_per_slab).count();
        let spare = (several * SPARE_SLABS) as u64 * SPARE_SLAB_BYTES;
        let pages = std::iter::once(entry("pages", pages as u64 * self.page_bytes));
        pages.chain((several > 0).then(|| entry("spare_slabs", spare)))
    }

    /// Returns the planned bytes of everything except the page pools.
    pub(in crate::model) fn bytes_without_pools(&self) -> u64 {
        let pool: u64 = self.pool_entries().map(|entry| entry.bytes).sum();
        self.plan().total_bytes() - pool
    }

    /// Returns the memory budget in bytes; `None` for no limit.
    pub(in crate::model) fn memory_budget(&self) -> Option<u64> {
        self.options.memory_budget
    }
}
