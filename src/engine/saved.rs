//! Sessions in files: the tokens, and their keys and values as they lay on the GPU.
//!
//! All numbers are little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `wgptsess` |
//! | 4 | version of the format: 2 |
//! | 4 | length of the header |
//! | that many | the header, JSON: model, number of tokens, how the pages were computed |
//! | 32 | SHA-256 of all in front of it |
//! | 4 a token | tokens |
//! | | pages: of the first layer in order of position, of the second one, ...; each `[2 (k, v), n_kv_head, PAGE_SIZE, head_dim]`, positions behind the last token zero. Pages that fell out of a layer's window are left out |
//! | 32 | SHA-256 of all in front of it |
//!
//! The length follows from the header, so that a file cut short is known before its
//! content is believed. Pages are copied through a few MiB of host memory. An engine
//! that would compute other keys and values (another type of the cache or the weights,
//! another mode of arithmetic) takes the tokens alone.

mod format;

use std::path::Path;
use std::sync::Arc;

use super::bound::{Bound, Entered, Shared};
use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::kernels::PAGE_SIZE;
use format::{Header, PageFacts, Reader, Writer};

/// Bytes of pages in host memory at once, at the most.
const PIECE_BYTES: u64 = 4 << 20;

impl PageFacts {
    /// Those that a session of `n_tokens` has here.
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
    /// Writes the session to a file, which [`Engine::restore`] reads: the tokens with
    /// their keys and values. The file appears when it is complete; one that was there
    /// stays until then. It holds the text in the clear.
    ///
    /// The first call of an engine reads all weights, to tell them from others.
    /// Other sessions may step in between. Where the session was not used since the
    /// engine moved to another device, the tokens alone are written.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written; as [`Session::advance`] for the
    /// device.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
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
        let mut writer = Writer::create(path.as_ref(), &header)?;
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
                return Err(moved());
            }
            let n = forward.cache_piece_bytes().min(PIECE_BYTES).min(total - start);
            piece.resize(n as usize, 0);
            let n_kv_head = bound.model.config.attention.n_kv_head;
            forward.read_cache(&bound.gpu, &self.pages, n_kv_head, self.tokens.len(), start, &mut piece)?;
            drop(forward);
            writer.write(&piece)?;
            start += n;
        }
        writer.finish()
    }
}

impl Engine {
    /// Reads a session that [`Session::save`] wrote: by this engine, or by any other
    /// with the same model, whatever its device, chunk and context. It goes on as the
    /// saved one would have; in [`crate::model::ModelOptions::deterministic`] mode with
    /// the same bits.
    ///
    /// Where this engine computes other keys and values than the file has (another
    /// type of cache or weights, another mode of arithmetic), the tokens are taken and
    /// run again when the session is next used.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Model`] for one that is cut
    /// short, damaged, of another format, or of another model; [`Error::Input`] for
    /// more tokens than the context holds; as [`Session::advance`] for the device.
    pub fn restore(&self, path: impl AsRef<Path>) -> Result<Session> {
        let mut reader = Reader::open(path.as_ref())?;
        let total = reader.header().page_bytes().unwrap_or(0);
        let Header { pages, first_pages, n_tokens, model, name, .. } = reader.header().clone();
        if let Some(difference) = self.files().identity()?.difference(&model) {
            return Err(reader.error(format!(
                "belongs to another model: {difference}; it was saved with {name:?}, this one is {:?}",
                self.files().name()
            )));
        }
        if n_tokens > self.n_ctx() as u64 {
            return Err(Error::input(format!(
                "{}: has {n_tokens} tokens, the context holds {}: load the model with a longer one",
                path.as_ref().display(),
                self.n_ctx()
            )));
        }
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

impl Session {
    /// Takes pages for the tokens, whose content is yet to come; `false` where layers have
    /// other ones here.
    fn take_pages(&mut self, first_pages: &[u64]) -> Result<bool> {
        let shared: Arc<Shared> = Arc::clone(&self.shared);
        let Entered { mut forward, bound } = shared.enter();
        forward.take_pages(&bound.gpu, &bound.model, &mut self.pages, self.tokens.len(), first_pages)
    }

    fn put_pages(&mut self, start: u64, piece: &[u8]) -> Result<()> {
        let Entered { mut forward, bound } = self.shared.enter();
        if !self.pages.holds(forward.cache(), self.tokens.len()) {
            return Err(moved());
        }
        forward.write_cache(&bound.gpu, &self.pages, self.tokens.len(), start, piece)
    }
}

fn moved() -> Error {
    Error::DeviceLost { message: "the engine moved to another device in the midst of a call".into() }
}
