//! How a model is loaded and run.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::gpu::{Capabilities, Strategy};
use crate::kernels::{Candidate, sample};
use crate::tensor::DType;

/// How a model is loaded and run.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOptions {
    /// Type of matrices and embeddings on the GPU.
    pub dtype: DType,
    /// Type of cached keys and values.
    pub kv_dtype: DType,
    /// Results do not depend on how a sequence was cut into chunks: decode runs
    /// through the prefill kernels. Slower.
    pub deterministic: bool,
    /// Longest context, at most the model's `n_positions`; `None` for all of it, or 8192
    /// where it has more.
    pub n_ctx: Option<usize>,
    /// Tokens that prefill processes at once; bounds the activations' memory.
    pub prefill_chunk: usize,
    /// Implementations to run in place of those that suit the device.
    pub variants: Vec<&'static Candidate>,
    /// Steps of a generation that are encoded ahead, with the sampler on the GPU: at
    /// most [`STEPS_AHEAD_MAX`]; 0 samples on the CPU. `None` for 0 on CPU adapters,
    /// where the CPU's sampler is the faster one, and [`STEPS_AHEAD`] elsewhere.
    pub steps_ahead: Option<usize>,
    /// Bytes of GPU memory that the model may take, sessions included. Loading compares
    /// its plan before anything is allocated; the cache grows no further, old and new
    /// pages counted while it does. What running generations add (some 2 KB each) and
    /// the driver's own memory are not counted, nor is a second copy while
    /// [`crate::Engine::rebind`] moves the model.
    pub memory_budget: Option<u64>,
    /// Keys and values that exceed f16 on their way into a cache of f16 fail the step
    /// with [`Error::Overflow`], where they would turn into infinity, and the logits
    /// into NaN. The kernels that append look at each number, and every pass waits for
    /// what they found, those of a prompt's chunks too: by default in debug builds
    /// alone. Nothing is looked at on the way into a cache of f32.
    pub detect_overflow: bool,
    /// The time that no submit shall take, by what its dispatches took when they were
    /// measured: longer work is divided among several. A GPU that is busy with one
    /// submit for too long is reset by the system (Windows after 2 s, phones sooner),
    /// and whatever else draws on it waits. [`MAX_SUBMIT`] by default.
    pub max_submit: Duration,
}

/// The time that no submit shall take by default: a fortieth of Windows' patience, so
/// that a device twenty times slower than it was when it was measured is still in
/// time, and three frames of a display at 60 Hz.
pub const MAX_SUBMIT: Duration = Duration::from_millis(50);

/// Steps ahead by default: the GPU has work while the host reads a submit's tokens,
/// and what a stop string or a cancellation throws away stays small.
pub const STEPS_AHEAD: usize = 4;
/// Steps ahead at the most: the ring of results holds two submits.
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
    /// Whether the kernels that append to the cache note what f16 cannot hold.
    pub(super) fn notes_overflow(&self) -> bool {
        self.detect_overflow && self.kv_dtype == DType::F16
    }

    /// # Errors
    /// [`Error::Input`] where no time is left for a submit.
    pub(super) fn check(&self) -> Result<()> {
        if self.max_submit.is_zero() {
            return Err(Error::input(
                "max_submit is 0: name the time that a submit may take, 50 ms unless a display demands less",
            ));
        }
        Ok(())
    }

    /// The steps ahead that the options ask for, on a device and for a vocabulary.
    ///
    /// # Errors
    /// [`Error::Input`] for too many, [`Error::Limits`] for a vocabulary that the
    /// sampler on the GPU does not take.
    pub(super) fn steps_ahead_on(&self, device: &Capabilities, vocab_size: usize) -> Result<usize> {
        let fits = vocab_size <= sample::N_MAX;
        match self.steps_ahead {
            None if device.strategy == Strategy::PerThread || !fits => Ok(0),
            None => Ok(STEPS_AHEAD),
            Some(steps) if steps > STEPS_AHEAD_MAX => {
                Err(Error::input(format!("{steps} steps ahead: at most {STEPS_AHEAD_MAX}")))
            }
            Some(steps) if steps > 0 && !fits => Err(Error::Limits(format!(
                "steps ahead: the sampler on the GPU takes a vocabulary of {} tokens at the most, this model has {}: \
             use --steps-ahead 0",
                sample::N_MAX,
                vocab_size
            ))),
            Some(steps) => Ok(steps),
        }
    }
}
