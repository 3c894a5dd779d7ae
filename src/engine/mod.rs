//! The engine: a loaded model, its sessions, and the loop that generates text.

mod ahead;
mod batch;
mod bound;
mod files;
mod generate;
mod lookup;
mod memory;
mod outcome;
mod saved;
mod score;
mod session;
mod source;
mod tuning;

use std::path::PathBuf;
use std::sync::Arc;

pub use batch::BatchLogits;
pub use files::ModelFiles;
pub use generate::{GenerateOptions, Generation, Overflow, Piece};
pub use lookup::LookupStats;
pub use memory::{check_budget, prepare};
pub use outcome::{FinishReason, Timings};
pub use score::TokenScore;
pub use session::{CancelFlag, Session};
pub use tuning::{Selection, select, tune_model, tuned_shapes};

use bound::Shared;

use crate::error::Result;
use crate::gpu::{Gpu, GpuOptions};
use crate::model::{ModelOptions, ProgressFn};
use crate::text::Tokenizer;

/// A model on a GPU. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What to load and how; made by [`Engine::builder`].
#[derive(Clone, Debug, Default)]
pub struct EngineBuilder {
    dir: Option<PathBuf>,
    gpu: GpuOptions,
    model: ModelOptions,
}

impl EngineBuilder {
    /// A directory in Hugging Face layout. Without it the demo model is taken.
    #[must_use]
    pub fn model(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// How the device is chosen and opened.
    #[must_use]
    pub fn gpu(mut self, options: GpuOptions) -> Self {
        self.gpu = options;
        self
    }

    /// Types, context and arithmetic.
    #[must_use]
    pub fn options(mut self, options: ModelOptions) -> Self {
        self.model = options;
        self
    }

    /// Opens and checks the model's files.
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    pub fn open_files(&self) -> Result<ModelFiles> {
        match &self.dir {
            Some(dir) => ModelFiles::open(dir),
            #[cfg(feature = "demo-model")]
            None => ModelFiles::demo(),
            #[cfg(not(feature = "demo-model"))]
            None => Err(crate::Error::input(
                "no model was named, and this build embeds none (feature demo-model)",
            )),
        }
    }

    /// Loads without reporting progress.
    ///
    /// # Errors
    /// Those of opening the files, the device, and of loading.
    pub fn build(&self) -> Result<Engine> {
        self.build_with(&mut |_| std::ops::ControlFlow::Continue(()))
    }

    /// Loads and reports progress; the callback's `Break` cancels.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`]; [`crate::Error::Cancelled`].
    pub fn build_with(&self, progress: &mut ProgressFn<'_>) -> Result<Engine> {
        Engine::load(self.open_files()?, Arc::new(Gpu::open(&self.gpu)?), &self.model, progress)
    }
}

impl Engine {
    /// Starts describing an engine.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// An empty session.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.shared))
    }

    /// Generates text behind a prompt, in a session of its own.
    ///
    /// An empty prompt begins with the model's end-of-text token, as GPT-2's
    /// documents do.
    ///
    /// # Errors
    /// As [`Engine::tokenizer`] and [`Engine::generate_tokens`].
    pub fn generate(&self, prompt: &str, options: GenerateOptions) -> Result<Generation> {
        let tokens = self.tokenizer()?.encode(prompt)?;
        self.generate_tokens(&tokens, options)
    }

    /// Generates behind a prompt of token ids; texts are produced where the
    /// model has a tokenizer.
    ///
    /// # Errors
    /// [`crate::Error::Input`] for a prompt that is too long or outside the
    /// vocabulary, and for invalid sampling parameters.
    pub fn generate_tokens(&self, prompt: &[u32], options: GenerateOptions) -> Result<Generation> {
        Generation::new(self, self.session(), prompt, options)
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// As [`ModelFiles::tokenizer`].
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.shared.files.tokenizer()
    }

    /// The model's files.
    #[must_use]
    pub fn files(&self) -> &ModelFiles {
        &self.shared.files
    }

    /// Tokens that the model knows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.shared.files.config().vocab_size
    }

    /// The longest context of a session.
    #[must_use]
    pub fn n_ctx(&self) -> usize {
        self.shared.n_ctx
    }

    /// How the model was loaded.
    #[must_use]
    pub fn options(&self) -> &ModelOptions {
        &self.shared.options
    }

    /// The device at present: [`Engine::rebind`] takes another one.
    #[must_use]
    pub fn gpu(&self) -> Arc<Gpu> {
        Arc::clone(&self.shared.bound().gpu)
    }

    /// Pages of the KV pool: (held by sessions, in all).
    #[must_use]
    pub fn kv_pages(&self) -> (usize, usize) {
        let mut forward = self.shared.lock();
        let pool = forward.pool();
        (pool.n_pages() - pool.n_free(), pool.n_pages())
    }
}
