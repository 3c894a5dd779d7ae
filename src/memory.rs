//! What GPU memory serves: its groups, a model's plan, a plan beyond its budget. No
//! wgpu here; errors carry these.

use std::fmt;

use crate::tensor::DType;

/// What a buffer's memory serves; the memory plan and the ledger list these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryGroup {
    /// Weights of the model.
    Weights,
    /// Pages of the KV cache.
    KvCache,
    /// Activations between kernels, the step state and the page table.
    Activations,
    /// Logits and what is computed from them.
    Logits,
    /// Buffers that the host maps: uploads of a step, readbacks.
    Transfer,
    /// Parameters of the kernels.
    Params,
}

impl MemoryGroup {
    /// All groups, in the order in which reports list them.
    pub const ALL: [MemoryGroup; 6] = [
        MemoryGroup::Weights,
        MemoryGroup::KvCache,
        MemoryGroup::Activations,
        MemoryGroup::Logits,
        MemoryGroup::Transfer,
        MemoryGroup::Params,
    ];

    /// The name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MemoryGroup::Weights => "weights",
            MemoryGroup::KvCache => "kv cache",
            MemoryGroup::Activations => "activations",
            MemoryGroup::Logits => "logits",
            MemoryGroup::Transfer => "transfer",
            MemoryGroup::Params => "params",
        }
    }
}

/// The GPU memory of a model, before anything is allocated.
///
/// A second session's pages beyond the first context make the KV pool grow, and
/// while it grows old and new slabs exist. A running generation with steps ahead
/// takes some 2 KB more, the first step within a frame budget some 32 bytes.
/// Everything else stays as planned.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// Every buffer or family of buffers.
    pub entries: Vec<PlanEntry>,
}

/// One line of a [`MemoryPlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
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

/// A change of one of a model's options that saves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A shorter context, in positions.
    Context(usize),
    /// Another type of cached keys and values.
    KvDtype(DType),
    /// Fewer tokens of a prompt at once.
    PrefillChunk(usize),
    /// Another type of the weights.
    Dtype(DType),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Context(n) => write!(f, "--ctx-size {n}"),
            Change::KvDtype(dtype) => write!(f, "--kv-dtype {dtype}"),
            Change::PrefillChunk(n) => write!(f, "--prefill-chunk {n}"),
            Change::Dtype(dtype) => write!(f, "--dtype {dtype}"),
        }
    }
}

/// Options with which a model fits its budget: its plan was computed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fit {
    /// What must change.
    pub changes: Vec<Change>,
    /// Bytes of all groups then.
    pub total_bytes: u64,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            write!(f, "{change} ")?;
        }
        write!(f, "({} bytes)", self.total_bytes)
    }
}

/// A plan that does not fit its budget, and what would.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OverBudget {
    /// What would have been allocated.
    pub plan: MemoryPlan,
    /// The bytes that may be.
    pub budget_bytes: u64,
    /// Options that fit, each by itself; where no single change suffices, all
    /// together with the longest context that they leave room for.
    pub fits: Vec<Fit>,
    /// What the model takes at the least, with every change and a context of 1.
    pub least_bytes: u64,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, budget) = (self.plan.total_bytes(), self.budget_bytes);
        write!(f, "the model needs {total} bytes of GPU memory, the budget is {budget} (")?;
        for (i, group) in MemoryGroup::ALL.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", group.name(), self.plan.group_bytes(group))?;
        }
        if self.fits.is_empty() {
            return write!(f, "): nothing less than {} bytes fits this model", self.least_bytes);
        }
        write!(f, "): what fits is ")?;
        for (i, fit) in self.fits.iter().enumerate() {
            write!(f, "{}{fit}", if i == 0 { "" } else { ", or " })?;
        }
        Ok(())
    }
}
