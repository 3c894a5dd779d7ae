//! The model: turns a config and a checkpoint into recorded GPU work.
//!
//! This module knows the order of layers and the names of tensors, but neither WGSL nor
//! workgroups.

mod ahead;
pub mod arch;
pub mod decoder;
mod dims;
mod forward;
mod frame_budget;
mod graph;
mod kv_cache;
mod loader;
mod options;
mod output;
mod progress;
pub mod random;
mod recordings;
pub mod rope;
pub mod spec;
mod trial;

pub use ahead::{AheadLoop, AheadToken};
pub use decoder::Decoder;
pub use dims::Dims;
pub use forward::{DispatchTiming, Forward, ScoredSequence, Sequence};
pub use frame_budget::{Overrun, PassOwner, PieceTime};
pub use kv_cache::{KvPool, PageLists};
pub use loader::{Weights, check_tensors};
pub use options::{ModelOptions, STEPS_AHEAD_MAX};
pub use output::{Output, Scores, bad_logits, kv_overflow};
pub(crate) use progress::report;
pub use progress::{LoadPhase, LoadProgress, PLAN_STEPS, ProgressFn};
pub use trial::{RecordedOp, Share, Trial};

use std::sync::Arc;

use crate::gpu::Gpu;
use crate::kernels::Choices;

/// The immutable half of a model: its configuration, and its weights on a device. Fields
/// that must agree for unchecked shaders are private to the crate.
pub struct Model {
    /// The architecture and its sizes.
    pub(crate) config: Decoder,
    /// The options for loading and running it.
    pub options: ModelOptions,
    /// The kernel candidate chosen for each operation.
    pub(crate) choices: Choices,
    /// The weights on the GPU.
    pub(crate) weights: Weights,
    /// The device that holds the weights and runs the model.
    pub(crate) gpu: Arc<Gpu>,
}
