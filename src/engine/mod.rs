//! The engine: a loaded model, its sessions, and the loop that generates text.

mod ahead;
mod background;
mod batch;
mod bound;
mod builder;
mod chat;
mod files;
mod frame_budget;
mod generate;
mod interrupt;
mod lookup;
mod memory;
mod outputs;
mod saved;
mod score;
mod session;
mod source;
mod tuning;
mod worker;

use std::sync::Arc;

pub use background::Background;
pub use batch::BatchLogits;
pub use builder::EngineBuilder;
pub use chat::{Answer, Chat, ChatOverflow, Message, TurnStats};
pub use files::ModelFiles;
pub use frame_budget::{Budget, Overrun, StepReport};
pub use generate::{
    FinishReason, GenerateOptions, Generation, GenerationStep, GenerationStream, Overflow, Piece, Timings,
};
pub use interrupt::CancelFlag;
pub use lookup::LookupStats;
pub use memory::{check_budget, prepare};
pub use outputs::{GpuOutputs, OutputRows};
pub use saved::check_saved;
pub use score::TokenScore;
pub use session::Session;
pub use tuning::{Selection, load_model, select, tune_model, tuned_shapes};

use bound::Shared;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::{KvPool, ModelOptions};
use crate::text::Tokenizer;

/// A model loaded on a GPU. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Returns a builder that describes what to load.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Returns a new, empty session.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.shared))
    }

    /// Generates text after `prompt` in a new session.
    ///
    /// An empty prompt is replaced by the model's begin token, which for GPT-2 is its
    /// end-of-text token.
    ///
    /// # Errors
    /// As [`Engine::tokenizer`] and [`Engine::generate_tokens`].
    pub fn generate(&self, prompt: &str, options: GenerateOptions) -> Result<Generation> {
        let tokens = self.tokenizer()?.encode(prompt)?;
        self.generate_tokens(&tokens, options)
    }

    /// Generates text after a prompt of token ids. Pieces contain text if the model has a
    /// tokenizer.
    ///
    /// # Errors
    /// [`crate::Error::Input`] if the prompt is too long, contains a token outside the
    /// vocabulary, or the sampling parameters are invalid.
    pub fn generate_tokens(&self, prompt: &[u32], options: GenerateOptions) -> Result<Generation> {
        Generation::new(self, self.session(), prompt, options)
    }

    /// Like [`Engine::generate`], but returns a stream for `async` code. This call
    /// tokenizes the prompt; GPU work starts at the first poll.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn generate_stream(&self, prompt: &str, options: GenerateOptions) -> Result<GenerationStream> {
        self.generate(prompt, options).map(Generation::into_stream)
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

    /// Number of tokens in the vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.shared.files.config().vocab_size
    }

    /// Maximum context length of a session, in tokens.
    #[must_use]
    pub fn n_ctx(&self) -> usize {
        self.shared.n_ctx
    }

    /// The options that the model was loaded with.
    #[must_use]
    pub fn options(&self) -> &ModelOptions {
        &self.shared.options
    }

    /// The current device; [`Engine::rebind`] replaces it.
    #[must_use]
    pub fn gpu(&self) -> Arc<Gpu> {
        Arc::clone(&self.shared.bound().model.gpu)
    }

    /// Pages of the KV cache over all groups of layers: (held by sessions, total).
    #[must_use]
    pub fn kv_pages(&self) -> (usize, usize) {
        let mut forward = self.shared.lock();
        let pools = forward.cache().pools();
        let n_pages: usize = pools.iter().map(KvPool::n_pages).sum();
        (n_pages - pools.iter().map(KvPool::n_free).sum::<usize>(), n_pages)
    }
}

#[cfg(test)]
mod tests;
