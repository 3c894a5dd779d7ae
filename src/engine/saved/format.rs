//! The file format. A file is written completely or not at all. Every count is checked on
//! reading.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::files::Identity;
use crate::error::{Error, Result};
use crate::files::NewFile;
use crate::tensor::DType;

const MAGIC: [u8; 8] = *b"wgptsess";
const VERSION: u32 = 2;
/// Magic, version, and length of the header.
const FRONT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;
/// Limit for the header. Headers have about 700 bytes plus the model's name.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// The header of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Version of wgpt that wrote the file.
    pub(super) wgpt: String,
    /// Name of the model.
    pub(super) name: String,
    pub(super) model: Identity,
    pub(super) n_tokens: u64,
    /// `None` if the file has only tokens.
    pub(super) pages: Option<PageFacts>,
    /// For each layer, the index of the first page in the file; earlier pages fell out of
    /// the layer's window. Empty without pages.
    pub(super) first_pages: Vec<u64>,
}

/// The properties that pages depend on. If they match the engine's, the pages can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageFacts {
    pub(super) kv_dtype: DType,
    /// Type of the weights that the pages were computed with.
    pub(super) dtype: DType,
    pub(super) deterministic: bool,
    pub(super) n_layer: u64,
    /// Bytes of one page of one layer.
    pub(super) page_bytes: u64,
    pub(super) n_pages: u64,
}

impl Header {
    /// Bytes of all pages of all layers; `None` for numbers that no valid file has.
    pub(super) fn page_bytes(&self) -> Option<u64> {
        let Some(pages) = self.pages else { return self.first_pages.is_empty().then_some(0) };
        if self.first_pages.len() as u64 != pages.n_layer {
            return None;
        }
        let add = |sum: u64, &first: &u64| sum.checked_add(pages.n_pages.checked_sub(first)?);
        pages.page_bytes.checked_mul(self.first_pages.iter().try_fold(0, add)?)
    }

    /// Bytes after the header's digest, including the final digest.
    fn body_bytes(&self) -> Option<u64> {
        let pages = self.page_bytes()?;
        self.n_tokens.checked_mul(4)?.checked_add(pages)?.checked_add(DIGEST_BYTES as u64)
    }
}

/// The destination of a saved session.
pub(super) enum Target {
    File(NewFile),
    Bytes(Vec<u8>),
}

/// A session being written.
pub(super) struct Writer {
    target: Target,
    hasher: Sha256,
}

impl Writer {
    pub(super) fn new(target: Target, header: &Header) -> Result<Self> {
        let mut writer = Writer { target, hasher: Sha256::new() };
        let json = serde_json::to_vec(header)
            .map_err(|error| Error::input(format!("the session's header as JSON: {error}")))?;
        writer.write(&MAGIC)?;
        writer.write(&VERSION.to_le_bytes())?;
        writer.write(&(json.len() as u32).to_le_bytes())?;
        writer.write(&json)?;
        writer.digest()?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        match &mut self.target {
            Target::File(file) => file.write(bytes),
            Target::Bytes(all) => {
                all.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn digest(&mut self) -> Result<()> {
        let digest = self.hasher.clone().finalize();
        self.write(&digest)
    }

    /// Completes the session. Returns its bytes, or none if they went to a file.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.digest()?;
        match self.target {
            Target::File(file) => file.finish().map(|()| Vec::new()),
            Target::Bytes(bytes) => Ok(bytes),
        }
    }
}

/// A saved session with a valid header.
pub(super) struct Reader<'a> {
    source: Box<dyn Read + 'a>,
    /// The file's name for messages.
    path: PathBuf,
    hasher: Sha256,
    header: Header,
}

impl<'a> Reader<'a> {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        if !path.metadata().map_err(failed("open"))?.is_file() {
            let message = "expected a saved session, found a directory or device";
            return Err(Error::model(path.display().to_string(), message));
        }
        let file = File::open(path).map_err(failed("open"))?;
        let len = file.metadata().map_err(failed("open"))?.len();
        Self::new(Box::new(BufReader::new(file)), len, path)
    }

    pub(super) fn of_bytes(bytes: &'a [u8]) -> Result<Self> {
        Self::new(Box::new(bytes), bytes.len() as u64, Path::new("saved session"))
    }

    fn new(mut source: Box<dyn Read + 'a>, len: u64, path: &Path) -> Result<Self> {
        let wrong = |message: String| Error::model(path.display().to_string(), message);
        let (front, json, hasher) = front(&mut source, len, path)?;
        let header: Header = serde_json::from_slice(&json).map_err(|error| {
            wrong(format!("damaged: the header does not have the fields of version {VERSION}: {error}"))
        })?;
        let expected = header.body_bytes().and_then(|body| body.checked_add(front));
        match expected {
            Some(expected) if expected == len => {}
            Some(expected) if expected > len => return Err(wrong(cut_short(len, expected))),
            Some(expected) => {
                return Err(wrong(format!("damaged: has {len} bytes, {} too many", len - expected)));
            }
            None => return Err(wrong("damaged: the numbers in the header are impossible".into())),
        }
        Ok(Reader { source, path: path.to_owned(), hasher, header })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the file's name for messages.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns an error that names the file.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::model(self.path.display().to_string(), message)
    }

    /// Reads the next bytes into `bytes`.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        let read = self.source.read_exact(bytes);
        read.map_err(|source| Error::Io { action: "read", path: self.path.clone(), source })?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Reads the tokens. The caller has checked their number.
    pub(super) fn tokens(&mut self, vocab_size: usize, tokens: &mut Vec<u32>) -> Result<()> {
        let mut token = [0; 4];
        for _ in 0..self.header.n_tokens {
            self.read(&mut token)?;
            let token = u32::from_le_bytes(token);
            if token as usize >= vocab_size {
                return Err(self.error(format!("damaged: token {token} is outside the vocabulary")));
            }
            tokens.push(token);
        }
        Ok(())
    }

    /// Verifies the digest of everything that was read.
    pub(super) fn finish(mut self) -> Result<()> {
        let found: [u8; DIGEST_BYTES] = self.hasher.clone().finalize().into();
        let mut expected = [0; DIGEST_BYTES];
        self.read(&mut expected)?;
        if found == expected { Ok(()) } else { Err(self.error("damaged: its checksum does not match")) }
    }
}

fn cut_short(len: u64, expected: u64) -> String {
    format!("cut short: has {len} of {expected} bytes")
}

/// Reads everything before the tokens. Returns its length, the header's JSON, and the
/// hasher that has consumed it.
fn front(file: &mut impl Read, len: u64, path: &Path) -> Result<(u64, Vec<u8>, Sha256)> {
    let wrong = |message: String| Error::model(path.display().to_string(), message);
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let mut front = [0; FRONT_BYTES];
    let n = len.min(FRONT_BYTES as u64) as usize;
    file.read_exact(&mut front[..n]).map_err(failed)?;
    let named = n.min(MAGIC.len());
    if front[..named] != MAGIC[..named] {
        return Err(wrong("not a saved session of wgpt".into()));
    }
    if n < FRONT_BYTES {
        return Err(wrong(cut_short(len, FRONT_BYTES as u64)));
    }
    let word = |at: usize| u32::from_le_bytes([front[at], front[at + 1], front[at + 2], front[at + 3]]);
    if word(8) != VERSION {
        let version = word(8);
        return Err(wrong(format!(
            "a saved session of format {version}, but this version of wgpt reads {VERSION}"
        )));
    }
    let json_bytes = word(12) as usize;
    if json_bytes > HEADER_BYTES_MAX {
        return Err(wrong(format!("damaged: a header of {json_bytes} bytes, more than {HEADER_BYTES_MAX}")));
    }
    let front_bytes = (FRONT_BYTES + json_bytes + DIGEST_BYTES) as u64;
    if len < front_bytes {
        return Err(wrong(cut_short(len, front_bytes)));
    }
    let mut json = vec![0; json_bytes];
    let mut expected = [0; DIGEST_BYTES];
    file.read_exact(&mut json).and_then(|()| file.read_exact(&mut expected)).map_err(failed)?;
    let mut hasher = Sha256::new();
    hasher.update(front);
    hasher.update(&json);
    let found: [u8; DIGEST_BYTES] = hasher.clone().finalize().into();
    if found != expected {
        return Err(wrong("damaged: the header's checksum does not match".into()));
    }
    hasher.update(expected);
    Ok((front_bytes, json, hasher))
}
