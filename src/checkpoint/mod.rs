//! Checkpoints in Hugging Face layout: bytes, names, shapes and dtypes.
//!
//! A safetensors file, or an index with shards, becomes a table of tensors. Opening it
//! checks once that every tensor is within its file. A [`Reader`] then converts any
//! rectangle of a tensor to `f32`, with positioned reads through a bounded buffer. Files
//! are not memory-mapped, because truncating a mapped file kills the process. The format
//! is described at <https://huggingface.co/docs/safetensors>. A checkpoint without a file
//! computes its values when they are read ([`Checkpoint::synthetic`]).
//!
//! This module also has typed readers for `config.json` ([`ConfigJson`]),
//! `generation_config.json` ([`GenerationConfig`]) and `tokenizer_config.json`
//! ([`TokenizerConfig`]). The model module interprets the names and fields.

mod config;
mod convert;
mod digest;
mod entries;
mod folder;
mod generation_config;
mod header;
mod json;
mod reader;
mod shards;
mod source;
mod synthetic;
mod tokenizer_config;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use config::ConfigJson;
pub use convert::{OutOfRange, convert_f16};
pub use folder::{ByteSource, Folder};
pub use generation_config::GenerationConfig;
pub use reader::Reader;
pub use synthetic::{Fill, SyntheticTensor};
pub use tokenizer_config::{SpecialToken, TemplateSource, TokenizerConfig};

use serde::Deserialize as _;

use crate::error::Result;
use source::Source;

/// Element type of a tensor in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SourceDType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// A type that wgpt does not read, with its name in the file. A file may contain such
    /// tensors (GPT-2's mask buffers are `U8` or `BOOL`), but reading one is an error.
    Other(String),
}

impl SourceDType {
    /// Returns the bits per element from the safetensors package's table; `None` for a
    /// type that the package does not know.
    fn bits(&self) -> Option<usize> {
        let name = self.to_string();
        let name = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&name);
        safetensors::Dtype::deserialize(name).ok().map(|dtype| dtype.bitsize())
    }

    fn from_name(name: String) -> Self {
        match name.as_str() {
            "F32" => SourceDType::F32,
            "F16" => SourceDType::F16,
            "BF16" => SourceDType::Bf16,
            _ => SourceDType::Other(name),
        }
    }

    /// Returns the size of one element in bytes; `None` for a type that wgpt does not
    /// read.
    #[must_use]
    pub fn size_bytes(&self) -> Option<usize> {
        match self {
            SourceDType::F32 => Some(4),
            SourceDType::F16 | SourceDType::Bf16 => Some(2),
            SourceDType::Other(_) => None,
        }
    }
}

impl fmt::Display for SourceDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SourceDType::F32 => "F32",
            SourceDType::F16 => "F16",
            SourceDType::Bf16 => "BF16",
            SourceDType::Other(name) => name,
        })
    }
}

/// One tensor of a [`Checkpoint`]. Its bytes are known to be within its file. For every
/// dtype of the safetensors format, the number of bytes also matches the shape.
#[derive(Debug)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// The element type in the file.
    pub dtype: SourceDType,
    /// The dimensions, row-major, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Index into [`Checkpoint::sources`].
    source: usize,
    /// The offset of the first byte from the start of the file.
    offset: u64,
    len_bytes: u64,
}

impl TensorInfo {
    /// Returns the tensor's size in the file in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Returns the number of elements: the product of the shape.
    #[must_use]
    pub fn len_elems(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of a model, from one safetensors file, from several shards, or without a
/// file ([`Checkpoint::synthetic`]).
#[derive(Debug)]
pub struct Checkpoint {
    sources: Vec<Source>,
    /// Sorted by name; each name occurs once.
    tensors: Vec<TensorInfo>,
}

impl Checkpoint {
    /// Opens the model in a folder: `model.safetensors` if it exists, or else
    /// `model.safetensors.index.json` and the shards that it names.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if a file cannot be opened or read;
    /// [`Error::Model`](crate::Error::Model) if neither file exists (the message lists
    /// the directory's files and says how to convert them), if a file is truncated or
    /// damaged, or if index and shards contradict each other.
    pub fn open(folder: &Folder) -> Result<Self> {
        shards::open(folder)
    }

    /// [`Checkpoint::open`] of a directory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_dir(dir: &Path) -> Result<Self> {
        Self::open(&Folder::Dir(dir.to_owned()))
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be opened or read,
    /// [`Error::Model`](crate::Error::Model) if it is not a complete, consistent
    /// safetensors file.
    pub fn open_file(path: &Path) -> Result<Self> {
        Self::from_source(Source::open(path)?)
    }

    /// Reads a safetensors file from an application's bytes. Messages call it `name`.
    ///
    /// # Errors
    /// As [`Checkpoint::open_file`].
    pub fn from_bytes(name: &str, bytes: Arc<dyn ByteSource>) -> Result<Self> {
        Self::from_source(Source::shared(name, bytes))
    }

    fn from_source(source: Source) -> Result<Self> {
        let tensors = header::read(&source, 0)?;
        Ok(Checkpoint { sources: vec![source], tensors })
    }

    /// Returns all tensors, sorted by name.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Returns the tensor called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        let i = self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[i])
    }

    /// Returns the total size of all tensors in bytes, without headers.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::len_bytes).sum()
    }

    /// Returns a reader with its own staging buffer. One reader can read all tensors.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }
}
