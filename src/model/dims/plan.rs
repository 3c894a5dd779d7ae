//! The memory plan.

use super::{Dims, Slot};
use crate::gpu::{MemoryGroup, Params, rounded_bytes};
use crate::kernels::sample::SampleScratch;
use crate::model::kv_cache::{SPARE_SLAB_BYTES, SPARE_SLABS};
use crate::model::loader::weight_bytes;

impl Dims {
    /// What will be allocated, exactly.
    #[must_use]
    pub fn plan(&self) -> MemoryPlan {
        let mut entries = vec![PlanEntry {
            group: MemoryGroup::Weights,
            name: "weights",
            bytes: weight_bytes(&self.config, self.options.dtype),
        }];
        let kv = self.initial_pages as u64 * self.page_bytes * self.config.n_layer as u64;
        entries.push(PlanEntry { group: MemoryGroup::KvCache, name: "pages", bytes: kv });
        if self.initial_pages > self.pages_per_slab {
            let bytes = SPARE_SLABS as u64 * SPARE_SLAB_BYTES;
            entries.push(PlanEntry { group: MemoryGroup::KvCache, name: "spare_slabs", bytes });
        }
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
}

/// The GPU memory of a model, before anything is allocated.
///
/// A second session's pages beyond the first context make the KV pool grow, and
/// while it grows old and new slabs exist. A running generation with steps ahead
/// takes some 2 KB more. Everything else stays as planned.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MemoryPlan {
    /// Every buffer or family of buffers.
    pub entries: Vec<PlanEntry>,
}

/// One line of a [`MemoryPlan`].
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PlanEntry {
    /// What the memory serves.
    pub group: MemoryGroup,
    /// The buffer's name.
    pub name: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
}

impl MemoryPlan {
    /// Bytes of one group.
    #[must_use]
    pub fn group_bytes(&self, group: MemoryGroup) -> u64 {
        self.entries.iter().filter(|entry| entry.group == group).map(|entry| entry.bytes).sum()
    }

    /// Bytes of all groups.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }
}
