//! Saved sessions: the tokens, with their keys and values as stored on the GPU.
//!
//! All numbers are little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `wgptsess` |
//! | 4 | version of the format: 2 |
//! | 4 | length of the header |
//! | that many | the header, JSON: model, number of tokens, how the pages were computed |
//! | 32 | SHA-256 of all preceding bytes |
//! | 4 per token | tokens |
//! | the rest | pages, see below |
//! | 32 | SHA-256 of all preceding bytes |
//!
//! Pages are in order of layer, then of position. Each is
//! `[2 (k, v), n_kv_head, PAGE_SIZE, head_dim]`; positions after the last token are zero. Pages
//! that fell out of a layer's window are left out.
//!
//! The length follows from the header, so a truncated file is detected before its content
//! is used. Pages are copied through a few MiB of host memory. If an engine would compute
//! other keys and values (because of another type of cache or weights, or another
//! arithmetic mode), it uses only the tokens.

mod format;

use std::path::Path;
use std::sync::Arc;

use super::bound::{Bound, Entered, Shared};
use super::{Engine, ModelFiles, Session};
use crate::error::{Error, Result};
use crate::files::NewFile;
use crate::kernels::PAGE_SIZE;
use format::{Header, PageFacts, Reader, Target, Writer};

/// Maximum bytes of pages in host memory at a time.
const PIECE_BYTES: u64 = 4 << 20;

impl PageFacts {
    /// The facts for the pages of a session with `n_tokens` in this engine.
    fn of(bound: &Bound, n_tokens: usize) -> Self {
        PageFacts {
            kv_dtype: bound.model.options.kv_dtype,
            dtype: bound.model.options.dtype,
            deterministic: bound.model.options.deterministic,
            n_layer: bound.model.config.n_layer as u64,
            page_bytes: bound.dims.page_bytes,
            n_pages: n_tokens.div_ceil(PAGE_SIZE) as u64,
        }
    }
}

impl Session {
    /// Writes the session to a file for [`Engine::restore`]: the tokens with their keys and
    /// values. The new file replaces an existing one only when it is complete. It contains
    /// the text unencrypted.
    ///
    /// The first call reads all weights to compute their hash. Other sessions may run
    /// while pages are copied. If the engine has moved to another device and the session
    /// has not been used since, only the tokens are written.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; the device errors of
    /// [`Session::advance`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(|| NewFile::create(path.as_ref()).map(Target::File)).map(|_| ())
    }

    /// Returns the bytes that [`Session::save`] would write, for an application that
    /// stores them elsewhere. [`Engine::restore_bytes`] reads them.
    ///
    /// # Errors
    /// The device errors of [`Session::advance`].
    pub fn save_bytes(&self) -> Result<Vec<u8>> {
        self.write(|| Ok(Target::Bytes(Vec::new())))
    }

    fn write(&self, target: impl FnOnce() -> Result<Target>) -> Result<Vec<u8>> {
        let shared = &self.shared;
        let model = shared.files.identity()?.clone();
        let Entered { mut forward, bound } = shared.enter();
        let cached = !self.tokens.is_empty() && self.pages.holds(forward.cache(), self.tokens.len());
        let first_pages = if cached { forward.first_pages(&self.pages) } else { Vec::new() };
        drop(forward);
        let pages = cached.then(|| PageFacts::of(&bound, self.tokens.len()));
        drop(bound);
        let header = Header {
            wgpt: env!("CARGO_PKG_VERSION").to_owned(),
            name: shared.files.name().to_owned(),
            model,
            n_tokens: self.tokens.len() as u64,
            pages,
            first_pages,
        };
        let mut writer = Writer::new(target()?, &header)?;
        for token in &self.tokens {
            writer.write(&token.to_le_bytes())?;
        }
        let total = header.page_bytes().unwrap_or(0);
        let mut start = 0;
        let mut piece = Vec::new();
        while start < total {
            self.check_cancel()?;
            let Entered { mut forward, bound } = shared.enter();
            if !self.pages.holds(forward.cache(), self.tokens.len()) {
                return Err(Error::engine_moved());
            }
            let n = forward.cache_piece_bytes().min(PIECE_BYTES).min(total - start);
            piece.resize(n as usize, 0);
            forward.read_cache(&bound.model, &self.pages, self.tokens.len(), start, &mut piece)?;
            drop(forward);
            writer.write(&piece)?;
            start += n;
        }
        writer.finish()
    }
}

impl Engine {
    /// Reads a session that [`Session::save`] wrote. The engine that saved it must have
    /// had the same model. Device, chunk size and context may differ. The session
    /// continues as the saved one would have, with the same bits in
    /// [`crate::model::ModelOptions::deterministic`] mode.
    ///
    /// If this engine would compute other keys and values than the file contains (because
    /// of another type of cache or weights, or another arithmetic mode), only the tokens
    /// are used. They run again when the session is next used.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Model`] if it is truncated,
    /// damaged, of another format, or of another model; [`Error::Input`] if it has more
    /// tokens than the context holds; the device errors of [`Session::advance`].
    pub fn restore(&self, path: impl AsRef<Path>) -> Result<Session> {
        self.read(Reader::open(path.as_ref())?)
    }

    /// Like [`Engine::restore`], from the bytes of [`Session::save_bytes`] or of a file.
    ///
    /// # Errors
    /// As [`Engine::restore`].
    pub fn restore_bytes(&self, bytes: &[u8]) -> Result<Session> {
        self.read(Reader::of_bytes(bytes)?)
    }

    fn read(&self, mut reader: Reader<'_>) -> Result<Session> {
        let total = reader.header().page_bytes().unwrap_or(0);
        let Header { pages, first_pages, model, .. } = reader.header().clone();
        refuse(&reader, self.files(), self.files().identity()?.difference(&model))?;
        check_length(&reader, self.n_ctx())?;
        let mut session = self.session();
        reader.tokens(self.vocab_size(), &mut session.tokens)?;
        let here = PageFacts::of(&self.shared.bound(), session.tokens.len());
        let usable = pages == Some(here) && session.take_pages(&first_pages)?;
        let mut start = 0;
        let mut piece = vec![0; PIECE_BYTES.min(total) as usize];
        while start < total {
            let n = PIECE_BYTES.min(total - start);
            let piece = &mut piece[..n as usize];
            reader.read(piece)?;
            if usable {
                session.put_pages(start, piece)?;
            }
            start += n;
        }
        reader.finish()?;
        Ok(session)
    }
}

/// Checks a session's file for [`Engine::restore`] before the model is loaded. The file
/// must be complete and its header undamaged. It must have been saved with this
/// config.json and this tokenizer.json, and its tokens must fit a context of `n_ctx`. The
/// weights are not read.
///
/// # Errors
/// As [`Engine::restore`].
pub fn check_saved(path: &Path, files: &ModelFiles, n_ctx: usize) -> Result<()> {
    let reader = Reader::open(path)?;
    refuse(&reader, files, files.difference_in_small_files(&reader.header().model)?)?;
    check_length(&reader, n_ctx)
}

/// Returns an error if there is a difference.
fn refuse(reader: &Reader<'_>, files: &ModelFiles, difference: Option<&str>) -> Result<()> {
    let Some(difference) = difference else { return Ok(()) };
    Err(reader.error(format!(
        "belongs to another model: {difference}; it was saved with {:?}, but this model is {:?}",
        reader.header().name,
        files.name()
    )))
}

fn check_length(reader: &Reader<'_>, n_ctx: usize) -> Result<()> {
    let n_tokens = reader.header().n_tokens;
    if n_tokens <= n_ctx as u64 {
        return Ok(());
    }
    Err(Error::input(format!(
        "{}: has {n_tokens} tokens, but the context holds {n_ctx}: load the model with a longer context",
        reader.name()
    )))
}

impl Session {
    /// Takes pages for the tokens, to be filled later. Returns `false` if the layers have
    /// other pages in this engine.
    fn take_pages(&mut self, first_pages: &[u64]) -> Result<bool> {
        let shared: Arc<Shared> = Arc::clone(&self.shared);
        let Entered { mut forward, bound } = shared.enter();
        forward.take_pages(&bound.model, &mut self.pages, self.tokens.len(), first_pages)
    }

    fn put_pages(&mut self, start: u64, piece: &[u8]) -> Result<()> {
        let Entered { mut forward, bound } = self.shared.enter();
        if !self.pages.holds(forward.cache(), self.tokens.len()) {
            return Err(Error::engine_moved());
        }
        forward.write_cache(&bound.model, &self.pages, self.tokens.len(), start, piece)
    }
}

#[cfg(test)]
mod tests;
