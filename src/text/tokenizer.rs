//! `tokenizer.json`, read with the tokenizers library.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tokenizers::{DecoderWrapper, Model as _, OffsetReferential, OffsetType, PreTokenizer as _};

use super::byte_level::{fallback_byte, token_bytes};
use crate::error::{Error, Result};

/// A converter between text and token ids, as `tokenizer.json` defines it.
///
/// Clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    /// The file, as the user would name it.
    name: String,
    library: tokenizers::Tokenizer,
    highest_id: Option<(u32, String)>,
    byte_tokens: ByteTokens,
}

/// The tokens that stand for bytes instead of text. Several such tokens may form one
/// character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteTokens {
    /// All tokens, in the alphabet of [`super::byte_level`].
    All,
    /// The tokens written `<0x00>` to `<0xFF>`.
    Fallback,
    /// No tokens.
    None,
}

/// A token added to the model's own vocabulary.
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) text: String,
    pub(super) special: bool,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Model`] if it is
    /// not a tokenizer.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
        Self::from_bytes(path.display().to_string(), &bytes)
    }

    /// Creates a tokenizer from the content of a `tokenizer.json`. Messages call it
    /// `name`.
    ///
    /// Truncation and padding in the file are ignored. A prompt keeps all its tokens and
    /// gets no others.
    ///
    /// # Errors
    /// [`Error::Model`] if the content is not a tokenizer.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        let name = name.into();
        let library = guarded(&name, "expected a tokenizer.json", || {
            let mut library = tokenizers::Tokenizer::from_bytes(bytes)?;
            library.with_padding(None).with_truncation(None)?;
            Ok(library)
        })?;
        let vocab = library.get_vocab(true);
        let highest_id = vocab.into_iter().map(|(token, id)| (id, token)).max();
        let byte_tokens = library.get_decoder().map_or(ByteTokens::None, byte_tokens);
        Ok(Tokenizer { inner: Arc::new(Inner { name, library, highest_id, byte_tokens }) })
    }

    /// Returns the ids of `text`. Special tokens in the text, such as `<|endoftext|>`,
    /// are recognised. No special tokens are added. The caller must add those that the
    /// file's template would put around a text.
    ///
    /// # Errors
    /// [`Error::Model`] if the tokenizer cannot encode the text, for example because it
    /// has no token for unknown text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(&self.inner.name, "cannot encode the text", || {
            self.inner.library.encode_fast(text, false)
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`Tokenizer::encode`], for a text with marks. `mark` breaks up every string
    /// that looks like an added token but is not one. The marks are removed after the
    /// search for added tokens.
    pub(super) fn encode_marked(&self, text: &str, mark: char) -> Result<Vec<u32>> {
        let library = &self.inner.library;
        let added = library.get_added_vocabulary();
        let special = |id: u32| self.id_to_token(id).is_some_and(|token| added.is_special_token(&token));
        let (n_special, encoding) = guarded(&self.inner.name, "cannot encode the text", || {
            let mut parts = added.extract_and_normalize(library.get_normalizer(), text);
            let found = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let ids =
                found.iter().filter_map(|(_, _, tokens)| tokens.as_ref()).flatten().map(|token| token.id);
            let n_special = ids.filter(|&id| special(id)).count();
            // `normalize` skips the parts that are already tokens.
            parts.normalize(|part| part.replace(mark, ""))?;
            if let Some(pre_tokenizer) = library.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut parts)?;
            }
            parts.tokenize(|part| library.get_model().tokenize(part.get()))?;
            Ok((n_special, parts.into_encoding(None, 0, OffsetType::None)?))
        })?;
        let ids = encoding.get_ids().to_vec();
        // If the model's vocabulary contains the special tokens, it may produce one from
        // plain text.
        if ids.iter().filter(|&&id| special(id)).count() != n_special {
            let message = "the tokenizer reads part of a message's text as a special token: remove that part";
            return Err(Error::input(format!("{}: {message}", self.inner.name)));
        }
        Ok(ids)
    }

    /// Returns the added tokens, special or not, in ascending order of id. The tokenizer
    /// searches a text for them before anything else.
    pub(super) fn added_tokens(&self) -> Vec<AddedToken> {
        let tokens = self.inner.library.get_added_tokens_decoder();
        let mut tokens: Vec<AddedToken> = tokens
            .into_iter()
            .map(|(id, token)| AddedToken { id, text: token.content, special: token.special })
            .collect();
        tokens.sort_unstable_by_key(|token| token.id);
        tokens
    }

    /// Returns the text of `ids`, with or without special tokens. Bytes that form no
    /// character become U+FFFD. An id without a token gives no text.
    ///
    /// # Errors
    /// [`Error::Model`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        // The library's BPEDecoder panics if no token is left to decode.
        if !ids.iter().any(|&id| self.text_token(id, skip_special_tokens).is_some()) {
            return Ok(String::new());
        }
        guarded(&self.inner.name, "cannot decode the tokens", || {
            self.inner.library.decode(ids, skip_special_tokens)
        })
    }

    /// Returns the token that gives the text of `id`, in the vocabulary's notation;
    /// `None` if decoding skips the id.
    pub(super) fn text_token(&self, id: u32, skip_special_tokens: bool) -> Option<String> {
        self.id_to_token(id).filter(|token| !(skip_special_tokens && self.is_special(token)))
    }

    /// Returns the highest id plus one, which is the minimum number of logits that a
    /// model needs. Some lower ids may have no token.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.highest_id.as_ref().map_or(0, |(id, _)| *id as usize + 1)
    }

    /// Returns the id of a token in the vocabulary's notation.
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.library.token_to_id(token)
    }

    /// Returns the token of an id in the vocabulary's notation. [`Tokenizer::decode`]
    /// returns its text.
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.library.id_to_token(id)
    }

    /// Returns whether a token in the vocabulary's notation is marked as special.
    #[must_use]
    pub fn is_special(&self, token: &str) -> bool {
        self.inner.library.get_added_vocabulary().is_special_token(token)
    }

    /// Returns the bytes of text that a single token stands for. In a byte-level
    /// vocabulary they may be part of a character. A SentencePiece token keeps its
    /// leading space, which decoding would drop at the beginning of a text. Empty for an
    /// id without a token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.id_to_token(id) else { return Vec::new() };
        match self.inner.byte_tokens {
            ByteTokens::All => token_bytes(&token),
            ByteTokens::Fallback => match fallback_byte(&token) {
                Some(byte) => vec![byte],
                None => token.replace('\u{2581}', " ").into_bytes(),
            },
            ByteTokens::None => token.into_bytes(),
        }
    }

    /// Returns the token that the file's template puts before every text, such as Llama's
    /// `<s>`; `None` if there is none, as for GPT-2.
    ///
    /// # Errors
    /// [`Error::Model`] if the tokenizer's template fails.
    pub fn leading_token(&self) -> Result<Option<u32>> {
        let encoding = guarded(&self.inner.name, "cannot encode an empty text", || {
            self.inner.library.encode_fast("", true)
        })?;
        Ok(encoding.get_ids().first().copied())
    }

    /// Checks that the model has an embedding for every token.
    ///
    /// # Errors
    /// [`Error::Model`] if the highest id is outside the model's vocabulary.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn check_vocab(&self, model_vocab_size: usize) -> Result<()> {
        match &self.inner.highest_id {
            Some((id, token)) if *id as usize >= model_vocab_size => Err(Error::model(
                &self.inner.name,
                format!(
                    "token {token:?} has id {id}, so the model needs a vocabulary of at least {}, but it has \
                 {model_vocab_size}: the tokenizer belongs to another model",
                    self.vocab_size()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Returns the lowest id at which two tokenizers differ, with its token in this one
    /// and in the other; `None` if the vocabularies are equal.
    #[must_use]
    pub fn first_difference(&self, other: &Tokenizer) -> Option<(u32, Option<String>, Option<String>)> {
        if Arc::ptr_eq(&self.inner, &other.inner) {
            return None;
        }
        let n = self.vocab_size().max(other.vocab_size()) as u32;
        let tokens = |id| (id, self.id_to_token(id), other.id_to_token(id));
        (0..n).map(tokens).find(|(_, here, there)| here != there)
    }

    pub(super) fn byte_tokens(&self) -> ByteTokens {
        self.inner.byte_tokens
    }
}

impl fmt::Debug for Tokenizer {
    /// Shows only the name and the size, because the vocabulary is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("name", &self.inner.name)
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

fn byte_tokens(decoder: &DecoderWrapper) -> ByteTokens {
    match decoder {
        DecoderWrapper::ByteLevel(_) => ByteTokens::All,
        DecoderWrapper::ByteFallback(_) => ByteTokens::Fallback,
        DecoderWrapper::Sequence(sequence) => match sequence.get_decoders() {
            [only] => byte_tokens(only),
            several if several.iter().any(|d| matches!(d, DecoderWrapper::ByteFallback(_))) => {
                ByteTokens::Fallback
            }
            _ => ByteTokens::None,
        },
        _ => ByteTokens::None,
    }
}

/// Runs a call into the library and turns a panic into an error. The library indexes by
/// values from the file and panics on some files. The panic's own line still appears on
/// stderr, and a build with `panic = "abort"` still aborts.
fn guarded<T>(name: &str, doing: &str, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    // Unwind safety: after a panic, the only state still in use is the library's word
    // cache, which holds only complete entries.
    let reason = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "the tokenizers library panics on this file".to_owned(),
    };
    Err(Error::model(name, format!("{doing}: {reason}")))
}
