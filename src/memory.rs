//! The uses of GPU memory: its groups, a model's plan, and a plan that exceeds its
//! budget. This module does not use wgpu, because errors carry these types.

use std::fmt;

use crate::tensor::DType;

/// The purpose of a buffer's memory. The memory plan and the ledger list these groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryGroup {
    /// Weights of the model.
    Weights,
    /// Pages of the KV cache.
    KvCache,
    /// Activations between kernels, the step state and the page table.
    Activations,
    /// Logits and the results computed from them.
    Logits,
    /// Buffers that the host maps: a step's uploads, and readbacks.
    Transfer,
    /// Parameters of the kernels.
    Params,
}

impl MemoryGroup {
    /// All groups, in the order of the reports.
    pub const ALL: [MemoryGroup; 6] = [
        MemoryGroup::Weights,
        MemoryGroup::KvCache,
        MemoryGroup::Activations,
        MemoryGroup::Logits,
        MemoryGroup::Transfer,
        MemoryGroup::Params,
    ];

    /// Returns the name used in reports.
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

/// The GPU memory that a model will need, computed before anything is allocated.
///
/// The plan covers the pages of one context. If further sessions need more pages, the KV
/// pool grows. While it grows, old and new slabs exist at the same time. A running
/// generation with steps ahead takes about 2 KB more, and the first step within a frame
/// budget about 32 bytes. Everything else stays as planned.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// Every buffer or family of buffers.
    pub entries: Vec<PlanEntry>,
}

/// One line of a [`MemoryPlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlanEntry {
    /// The purpose of the memory.
    pub group: MemoryGroup,
    /// The buffer's name.
    pub name: &'static str,
    /// The size in bytes.
    pub bytes: u64,
}

impl MemoryPlan {
    /// Returns the bytes of one group.
    #[must_use]
    pub fn group_bytes(&self, group: MemoryGroup) -> u64 {
        self.entries.iter().filter(|entry| entry.group == group).map(|entry| entry.bytes).sum()
    }

    /// Returns the bytes of all groups.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }
}

/// A change to one of a model's options that saves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A shorter context, in positions.
    Context(usize),
    /// Another dtype for cached keys and values.
    KvDtype(DType),
    /// Fewer prompt tokens per prefill chunk.
    PrefillChunk(usize),
    /// Another dtype for the weights.
    Dtype(DType),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Context(n) => write!(f, "ModelOptions::n_ctx = {n}"),
            Change::KvDtype(dtype) => write!(f, "ModelOptions::kv_dtype = {dtype}"),
            Change::PrefillChunk(n) => write!(f, "ModelOptions::prefill_chunk = {n}"),
            Change::Dtype(dtype) => write!(f, "ModelOptions::dtype = {dtype}"),
        }
    }
}

/// A set of option changes that makes a model fit its budget. A new plan has verified it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fit {
    /// The changes to make.
    pub changes: Vec<Change>,
    /// Bytes of all groups after these changes.
    pub total_bytes: u64,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, change) in self.changes.iter().enumerate() {
            write!(f, "{}{change}", if i == 0 { "" } else { " and " })?;
        }
        write!(f, " ({} bytes)", self.total_bytes)
    }
}

/// A plan that exceeds its budget, and the option changes that would make it fit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OverBudget {
    /// The plan that was refused.
    pub plan: MemoryPlan,
    /// The budget in bytes.
    pub budget_bytes: u64,
    /// The changes that fit. Each entry is a single change. If no single change is
    /// enough, the only entry combines all of them; if that is still too much, it also
    /// has the longest context that fits. Empty if nothing fits.
    pub fits: Vec<Fit>,
    /// The least that the model can take, in bytes: every change applied, and a context
    /// of 1.
    pub least_bytes: u64,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, budget) = (self.plan.total_bytes(), self.budget_bytes);
        write!(f, "the model needs {total} bytes of GPU memory, but the budget is {budget} (")?;
        for (i, group) in MemoryGroup::ALL.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", group.name(), self.plan.group_bytes(group))?;
        }
        if self.fits.is_empty() {
            return write!(f, "): nothing less than {} bytes fits this model", self.least_bytes);
        }
        write!(f, "): it fits with ")?;
        for (i, fit) in self.fits.iter().enumerate() {
            write!(f, "{}{fit}", if i == 0 { "" } else { ", or " })?;
        }
        Ok(())
    }
}
