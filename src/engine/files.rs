//! A model's files: a directory in Hugging Face layout, the embedded demo model, or random
//! weights without files.

mod chat;
mod identity;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::checkpoint::{Checkpoint, ConfigJson, GenerationConfig, TokenizerConfig};
use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::model::{Decoder, random};
use crate::text::Tokenizer;
pub(super) use identity::Identity;

/// A model's files, opened and checked, before anything is loaded.
#[derive(Debug)]
pub struct ModelFiles {
    name: String,
    config: Decoder,
    checkpoint: Checkpoint,
    generation: GenerationConfig,
    tokenizer_source: TokenizerSource,
    tokenizer: OnceLock<Tokenizer>,
    tokenizer_config: OnceLock<TokenizerConfig>,
    identity: OnceLock<Identity>,
}

#[derive(Debug)]
enum TokenizerSource {
    File(PathBuf),
    #[cfg(feature = "demo-model")]
    Static(&'static [u8]),
    /// Random weights have no tokenizer.
    Absent,
}

/// Limit for tokenizer.json. Published tokenizers have up to 35 MB (256 k tokens).
const TOKENIZER_BYTES_MAX: u64 = 256 << 20;

/// The embedded model's files.
#[cfg(feature = "demo-model")]
mod demo {
    pub const CONFIG: &[u8] = include_bytes!("../../weights/config.json");
    pub const TOKENIZER: &[u8] = include_bytes!("../../weights/tokenizer.json");
    pub const CHECKPOINT: &[u8] = include_bytes!("../../weights/model.safetensors");
}

impl ModelFiles {
    /// Opens a directory with `config.json` and `model.safetensors` (or an index and its
    /// shards); `generation_config.json` and `tokenizer.json` are optional.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Model`], [`Error::Config`] with the file's name.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let found = if dir.exists() { "is a file" } else { "does not exist" };
            return Err(Error::model(
                dir.display().to_string(),
                format!("{found}: expected a directory with config.json and model.safetensors"),
            ));
        }
        let name = dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        Self::within(dir, name, || Checkpoint::open_dir(dir))
    }

    /// Opens one safetensors file under any name, such as a training checkpoint.
    /// `config.json` and the other files are read from its directory.
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    pub fn open_weights(file: &Path) -> Result<Self> {
        let name =
            file.file_stem().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::within(dir, name, || Checkpoint::open_file(file))
    }

    fn within(dir: &Path, name: String, checkpoint: impl FnOnce() -> Result<Checkpoint>) -> Result<Self> {
        Ok(ModelFiles {
            name,
            config: Decoder::from_json(&ConfigJson::from_file(&dir.join("config.json"))?)?,
            checkpoint: checkpoint()?,
            generation: GenerationConfig::from_dir(dir)?,
            tokenizer_source: TokenizerSource::File(dir.join("tokenizer.json")),
            tokenizer: OnceLock::new(),
            tokenizer_config: OnceLock::new(),
            identity: OnceLock::new(),
        })
    }

    /// The embedded demo model: 2.3 M parameters, trained on TinyStories.
    ///
    /// # Errors
    /// None in a sound build.
    #[cfg(feature = "demo-model")]
    pub fn demo() -> Result<Self> {
        Ok(ModelFiles {
            name: "demo".into(),
            config: Decoder::from_json(&ConfigJson::from_bytes("weights/config.json", demo::CONFIG)?)?,
            checkpoint: Checkpoint::from_static("weights/model.safetensors", demo::CHECKPOINT)?,
            generation: GenerationConfig::default(),
            tokenizer_source: TokenizerSource::Static(demo::TOKENIZER),
            tokenizer: OnceLock::new(),
            tokenizer_config: OnceLock::new(),
            identity: OnceLock::new(),
        })
    }

    /// A model with random weights, computed from `seed` during loading: for measuring
    /// speed and memory of any shape without files. It has no tokenizer. The same seed
    /// gives the same weights on every machine.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a shape whose size in bytes exceeds 2^64.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn random(config: Decoder, seed: u64) -> Result<Self> {
        Ok(ModelFiles {
            name: random::name(&config),
            checkpoint: random::checkpoint(&config, seed)?,
            config,
            generation: GenerationConfig::default(),
            tokenizer_source: TokenizerSource::Absent,
            tokenizer: OnceLock::new(),
            tokenizer_config: OnceLock::new(),
            identity: OnceLock::new(),
        })
    }

    /// Whether `path` is a `.safetensors` or `.json` file in the model's directory, or the
    /// target of a link with such a name. A directory in a Hugging Face cache contains links
    /// to weights that are stored elsewhere under other names.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn contains(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        let Some(Ok(entries)) = self.dir().map(std::fs::read_dir) else { return false };
        entries.flatten().map(|entry| entry.path()).any(|own| {
            let extension = own.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("safetensors" | "json"))
                && own.canonicalize().is_ok_and(|own| own == path)
        })
    }

    /// The model's directory; `None` for an embedded or a random model.
    fn dir(&self) -> Option<&Path> {
        match &self.tokenizer_source {
            TokenizerSource::File(path) => path.parent(),
            #[cfg(feature = "demo-model")]
            TokenizerSource::Static(_) => None,
            TokenizerSource::Absent => None,
        }
    }

    /// The directory's name, "demo", or the shape of the random weights. For
    /// [`ModelFiles::open_weights`] the file's name without its extension.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configuration.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn config(&self) -> &Decoder {
        &self.config
    }

    /// The tensors.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model's own generation defaults.
    #[must_use]
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.generation
    }

    /// The token that replaces an empty prompt: from generation_config.json, else from
    /// config.json, else the first end token, since GPT-2's documents begin with it.
    #[must_use]
    pub fn bos_token_id(&self) -> Option<u32> {
        let named = self.generation.bos_token_id.or(self.config.bos_token_id);
        named.or(self.eos_token_ids().first().copied())
    }

    /// The tokens that end a text: from generation_config.json, else from config.json.
    #[must_use]
    pub fn eos_token_ids(&self) -> &[u32] {
        self.generation.eos_token_id.as_deref().unwrap_or(&self.config.eos_token_ids)
    }

    /// Whether `tokenizer.json` exists, valid or not.
    #[must_use]
    pub fn has_tokenizer(&self) -> bool {
        match &self.tokenizer_source {
            TokenizerSource::File(path) => path.exists(),
            #[cfg(feature = "demo-model")]
            TokenizerSource::Static(_) => true,
            TokenizerSource::Absent => false,
        }
    }

    /// The tokenizer. The first call reads it.
    ///
    /// # Errors
    /// [`Error::Io`] without a `tokenizer.json`, [`Error::Input`] for random weights,
    /// [`Error::Model`] for a damaged tokenizer or one with ids outside the vocabulary.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = match &self.tokenizer_source {
            TokenizerSource::File(path) => {
                let bytes = read_bounded(path, TOKENIZER_BYTES_MAX)?;
                Tokenizer::from_bytes(path.display().to_string(), &bytes)?
            }
            #[cfg(feature = "demo-model")]
            TokenizerSource::Static(bytes) => Tokenizer::from_bytes("weights/tokenizer.json", bytes)?,
            TokenizerSource::Absent => {
                return Err(Error::input(
                    "random weights have no tokenizer: give token ids instead of text (Engine::generate_tokens)",
                ));
            }
        };
        tokenizer.check_vocab(self.config.vocab_size)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }
}
