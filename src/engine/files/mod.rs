//! A model's files: a directory in Hugging Face layout, the embedded demo model, or random
//! weights without files.

mod chat;
mod identity;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::checkpoint::{ByteSource, Checkpoint, ConfigJson, Folder, GenerationConfig, TokenizerConfig};
use crate::error::{Error, Result};
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
    /// `None` for random weights.
    folder: Option<Folder>,
    tokenizer: OnceLock<Tokenizer>,
    tokenizer_config: OnceLock<TokenizerConfig>,
    weights_sha256: OnceLock<String>,
    identity: OnceLock<Identity>,
}

/// The tokenizer's file name in a model's folder.
const TOKENIZER: &str = "tokenizer.json";
/// Limit for tokenizer.json. Published tokenizers have up to 35 MB (256 k tokens).
const TOKENIZER_BYTES_MAX: u64 = 256 << 20;

/// The embedded model's files.
#[cfg(feature = "demo-model")]
const DEMO: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../../weights/config.json")),
    (TOKENIZER, include_bytes!("../../../weights/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../../weights/model.safetensors")),
];

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
        Self::within(Folder::Dir(dir.to_owned()), name, Checkpoint::open)
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
        Self::within(Folder::Dir(dir.to_owned()), name, |_| Checkpoint::open_file(file))
    }

    /// Accepts a model's files from any source: from memory, from an archive, from an
    /// application's own storage. `files` contains the names in a model directory with
    /// their bytes. `config.json` and `model.safetensors` (or an index and its shards)
    /// are required. Messages call the directory `name`.
    ///
    /// ```no_run
    /// # fn main() -> wgpt::Result<()> {
    /// # let read = |name: &str| std::fs::read(name).unwrap();
    /// let names = ["config.json", "tokenizer.json", "model.safetensors"];
    /// let files = wgpt::ModelFiles::from_sources("mine", names.map(|name| (name, read(name))))?;
    /// let engine = wgpt::Engine::builder().files(files).build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    pub fn from_sources<N: Into<String>, S: ByteSource + 'static>(
        name: impl Into<String>,
        files: impl IntoIterator<Item = (N, S)>,
    ) -> Result<Self> {
        let name = name.into();
        let shared = |(file, source): (N, S)| (file.into(), Arc::new(source) as Arc<dyn ByteSource>);
        let files = files.into_iter().map(shared).collect();
        Self::within(Folder::Sources { name: name.clone(), files }, name, Checkpoint::open)
    }

    fn within(
        folder: Folder,
        name: String,
        checkpoint: impl FnOnce(&Folder) -> Result<Checkpoint>,
    ) -> Result<Self> {
        let config = Decoder::from_json(&ConfigJson::of(&folder)?)?;
        let checkpoint = checkpoint(&folder)?;
        let generation = GenerationConfig::of(&folder)?;
        Ok(Self::new(name, config, checkpoint, generation, Some(folder)))
    }

    fn new(
        name: String,
        config: Decoder,
        checkpoint: Checkpoint,
        generation: GenerationConfig,
        folder: Option<Folder>,
    ) -> Self {
        ModelFiles {
            name,
            config,
            checkpoint,
            generation,
            folder,
            tokenizer: OnceLock::new(),
            tokenizer_config: OnceLock::new(),
            weights_sha256: OnceLock::new(),
            identity: OnceLock::new(),
        }
    }

    /// The embedded demo model: 2.3 M parameters, trained on TinyStories.
    ///
    /// # Errors
    /// None in a sound build.
    #[cfg(feature = "demo-model")]
    pub fn demo() -> Result<Self> {
        Self::from_sources("demo", DEMO)
    }

    /// A model with random weights, which are computed from `seed` during loading. It
    /// serves to measure speed and memory of any shape without files. It has no
    /// tokenizer. The same seed gives the same weights on every machine.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a shape whose size in bytes exceeds 2^64.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn random(config: Decoder, seed: u64) -> Result<Self> {
        let (name, checkpoint) = (random::name(&config), random::checkpoint(&config, seed)?);
        Ok(Self::new(name, config, checkpoint, GenerationConfig::default(), None))
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
        match &self.folder {
            Some(Folder::Dir(dir)) => Some(dir),
            Some(Folder::Sources { .. }) | None => None,
        }
    }

    /// The directory's name, "demo", or the shape of the random weights. After
    /// [`ModelFiles::open_weights`] it is the file's name without its extension.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The architecture as config.json names it, such as `llama`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.config.architecture
    }

    /// Number of weights.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.config.n_parameters()
    }

    /// Number of tokens in the model's vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    /// The longest context that the model was made for, in tokens.
    #[must_use]
    pub fn n_positions(&self) -> usize {
        self.config.n_positions
    }

    /// The model's description as labelled lines: layers, heads, norms, rotary embeddings.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        self.config.describe()
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

    /// The token that replaces an empty prompt: from generation_config.json, or else from
    /// config.json. If neither names one, it is the first end token, because GPT-2's
    /// documents begin with it.
    #[must_use]
    pub fn bos_token_id(&self) -> Option<u32> {
        let named = self.generation.bos_token_id.or(self.config.bos_token_id);
        named.or(self.eos_token_ids().first().copied())
    }

    /// The tokens that end a text: from generation_config.json, or else from config.json.
    #[must_use]
    pub fn eos_token_ids(&self) -> &[u32] {
        self.generation.eos_token_id.as_deref().unwrap_or(&self.config.eos_token_ids)
    }

    /// Whether `tokenizer.json` exists, valid or not.
    #[must_use]
    pub fn has_tokenizer(&self) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.has(TOKENIZER))
    }

    /// The tokenizer. The first call reads it.
    ///
    /// # Errors
    /// [`Error::Io`] without a `tokenizer.json`; [`Error::Input`] for random weights;
    /// [`Error::Model`] for a damaged tokenizer or one with ids outside the vocabulary.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let Some(folder) = &self.folder else {
            return Err(Error::input(
                "random weights have no tokenizer: give token ids instead of text (Engine::generate_tokens)",
            ));
        };
        let bytes = folder.read(TOKENIZER, TOKENIZER_BYTES_MAX)?;
        let tokenizer = Tokenizer::from_bytes(folder.display(TOKENIZER), &bytes)?;
        tokenizer.check_vocab(self.config.vocab_size)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }
}
