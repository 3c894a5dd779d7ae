//! The model: from a config and a checkpoint to recorded work on the GPU.
//!
//! Knows the order of layers and the names of tensors; knows neither WGSL nor
//! workgroups.

mod ahead;
mod cost;
mod dims;
mod forward;
pub mod gpt2;
mod graph;
mod kv_cache;
mod loader;
mod options;
mod output;
mod progress;
pub mod random;
mod recordings;

pub use ahead::{AheadLoop, AheadToken};
pub use dims::{Dims, MemoryPlan, PlanEntry};
pub use forward::{DispatchTiming, Forward, Overrun, PassOwner, PieceTime, ScoredSequence, Sequence};
pub use gpt2::Gpt2Config;
pub use kv_cache::{KvPool, PageList};
pub use loader::{Weights, check_tensors, weight_bytes};
pub use options::{MAX_SUBMIT, ModelOptions, STEPS_AHEAD, STEPS_AHEAD_MAX};
pub use output::{Output, Scores, bad_logits, kv_overflow};
pub(crate) use progress::report;
pub use progress::{LoadPhase, LoadProgress, PLAN_STEPS, ProgressFn};

use crate::kernels::Choices;

/// The immutable half of a model: what it is and its weights.
#[derive(Debug)]
pub struct Model {
    /// The configuration.
    pub config: Gpt2Config,
    /// How it runs.
    pub options: ModelOptions,
    /// The implementation of each operation.
    pub choices: Choices,
    /// The weights on the GPU.
    pub weights: Weights,
}
