//! Options for loading and running a model.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::gpu::{Capabilities, Strategy};
use crate::kernels::{Candidate, sample};
use crate::tensor::DType;

/// Options for loading and running a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOptions {
    /// Element type of matrices and embeddings on the GPU.
    pub dtype: DType,
    /// Element type of cached keys and values.
    pub kv_dtype: DType,
    /// Makes results independent of the division of a sequence into chunks. Decode then
    /// uses the prefill kernels, which is slower.
    pub deterministic: bool,
    /// Longest context, at most the model's `n_positions`. `None` means the smaller of
    /// `n_positions` and 8192.
    pub n_ctx: Option<usize>,
    /// Maximum tokens that prefill processes at once; bounds the memory of activations.
    pub prefill_chunk: usize,
    /// Kernel candidates that replace those chosen for the device.
    pub variants: Vec<&'static Candidate>,
    /// Steps of a generation that are encoded ahead with the GPU sampler, at most
    /// [`STEPS_AHEAD_MAX`]. 0 samples on the CPU. `None` means 0 on CPU adapters, where
    /// the CPU sampler is faster, and for vocabularies that are too large for the GPU
    /// sampler. Otherwise it means 4.
    pub steps_ahead: Option<usize>,
    /// Memory budget: the maximum bytes of GPU memory that the model may take, including
    /// its sessions. Loading compares its plan with the budget before anything is
    /// allocated. The KV cache does not grow beyond the budget; while it grows, old and
    /// new pages both count. The budget excludes the memory that running generations add
    /// (about 2 KB each), the driver's own memory, and the second copy while
    /// [`crate::Engine::rebind`] moves the model.
    pub memory_budget: Option<u64>,
    /// Detects f16 overflow. If a key or value is too large for an f16 cache, the step
    /// fails with [`Error::Overflow`]. Without detection it becomes infinity, and the
    /// logits become NaN. Detection costs time: the append kernels test each number, and
    /// every pass waits for the result, even for the chunks of a prompt. It is on by
    /// default only in debug builds. An f32 cache is never tested.
    pub detect_overflow: bool,
    /// Maximum time that a submit should take, predicted from measured dispatch times.
    /// Longer work is divided among several submits. The system resets a GPU that one
    /// submit keeps busy for too long (Windows after 2 s, phones sooner), and all other
    /// programs that draw with the GPU wait. 50 ms by default.
    pub max_submit: Duration,
}

/// The default of [`ModelOptions::max_submit`]: three frames of a display at 60 Hz. It is
/// a fortieth of the 2 s that Windows allows. A device that has become twenty times
/// slower since it was measured still meets that limit.
pub const MAX_SUBMIT: Duration = Duration::from_millis(50);

/// Default steps ahead. The GPU has work while the host reads a submit's tokens, and a
/// stop string or a cancellation discards only a few tokens.
pub const STEPS_AHEAD: usize = 4;
/// Maximum steps ahead. The ring of results holds two such submits.
pub const STEPS_AHEAD_MAX: usize = 16;

impl Default for ModelOptions {
    fn default() -> Self {
        ModelOptions {
            dtype: DType::F16,
            kv_dtype: DType::F16,
            deterministic: false,
            n_ctx: None,
            prefill_chunk: 256,
            variants: Vec::new(),
            steps_ahead: None,
            memory_budget: None,
            detect_overflow: cfg!(debug_assertions),
            max_submit: MAX_SUBMIT,
        }
    }
}

impl ModelOptions {
    /// Returns whether the append kernels record f16 overflow.
    pub(super) fn detects_f16_overflow(&self) -> bool {
        self.detect_overflow && self.kv_dtype == DType::F16
    }

    /// Checks the options that need no device.
    ///
    /// # Errors
    /// [`Error::Input`] for a `max_submit` of 0.
    pub(super) fn check(&self) -> Result<()> {
        if self.max_submit.is_zero() {
            return Err(Error::input(
                "ModelOptions::max_submit is 0: give the time that a submit may take, 50 ms unless a display \
                 needs less",
            ));
        }
        Ok(())
    }

    /// Returns the number of steps ahead for a device and a vocabulary.
    ///
    /// # Errors
    /// [`Error::Input`] for more than [`STEPS_AHEAD_MAX`]; [`Error::Limits`] for a
    /// vocabulary that is too large for the GPU sampler.
    pub(super) fn steps_ahead_on(&self, device: &Capabilities, vocab_size: usize) -> Result<usize> {
        let fits = vocab_size <= sample::N_MAX;
        match self.steps_ahead {
            None if device.strategy == Strategy::PerThread || !fits => Ok(0),
            None => Ok(STEPS_AHEAD),
            Some(steps) if steps > STEPS_AHEAD_MAX => {
                Err(Error::input(format!("{steps} steps ahead: expected at most {STEPS_AHEAD_MAX}")))
            }
            Some(steps) if steps > 0 && !fits => Err(Error::Limits(format!(
                "steps ahead: the sampler on the GPU takes a vocabulary of at most {} tokens, but this model \
                 has {}: use ModelOptions::steps_ahead = 0",
                sample::N_MAX,
                vocab_size
            ))),
            Some(steps) => Ok(steps),
        }
    }
}
