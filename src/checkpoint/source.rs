//! Sources of tensor bytes: a file, an application's byte source, or a formula.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::ByteSource;
use super::synthetic::Values;
use crate::error::{Error, Result};

/// An open safetensors file or a substitute for one, with its length at the time of
/// opening.
pub(super) struct Source {
    path: PathBuf,
    len_bytes: u64,
    data: Data,
}

enum Data {
    File(File),
    Shared(Arc<dyn ByteSource>),
    /// f32 values, starting at the first byte.
    Synthetic(Values),
}

impl Source {
    /// Opens a regular file. Anything else is rejected before it is opened, because
    /// opening a pipe would wait for a writer.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let io_error = |source| Error::Io { action: "open", path: path.to_owned(), source };
        if !path.metadata().map_err(io_error)?.is_file() {
            return Err(Error::model(
                path.display().to_string(),
                "expected a safetensors file, found a directory or device",
            ));
        }
        let file = File::open(path).map_err(io_error)?;
        let len_bytes = file.metadata().map_err(io_error)?.len();
        Ok(Source { path: path.to_owned(), len_bytes, data: Data::File(file) })
    }

    /// Creates a source from an application's bytes. Messages call it `name`.
    pub(super) fn shared(name: &str, bytes: Arc<dyn ByteSource>) -> Self {
        Source { path: PathBuf::from(name), len_bytes: bytes.len_bytes(), data: Data::Shared(bytes) }
    }

    /// Creates a source of one tensor of `len_bytes`, which is computed when it is read.
    pub(super) fn synthetic(name: &str, len_bytes: u64, values: Values) -> Self {
        Source { path: PathBuf::from(name), len_bytes, data: Data::Synthetic(values) }
    }

    pub(super) fn is_synthetic(&self) -> bool {
        matches!(self.data, Data::Synthetic(_))
    }

    /// Returns the file's name for messages.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Fills `out` with the bytes from `offset` on.
    pub(super) fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &self.data {
            Data::File(file) => read_file_at(file, offset, out),
            Data::Shared(bytes) => bytes.read_exact_at(offset, out),
            // Reads of tensors begin and end at element boundaries.
            Data::Synthetic(values) => {
                values.write(offset / 4, out);
                Ok(())
            }
        }
    }

    /// Converts a failed read to an error for the user. Every read is within the checked
    /// length, so an early end means that the file has become shorter.
    pub(super) fn read_error(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Error::model(
                self.name(),
                format!(
                    "ended early: it had {} bytes when it was opened and was truncated while being read; \
                     load it again when no program writes to it",
                    self.len_bytes
                ),
            );
        }
        Error::Io { action: "read", path: self.path.clone(), source: error }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).field("len_bytes", &self.len_bytes).finish()
    }
}

#[cfg(unix)]
fn read_file_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_file_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A range of a source, as a stream for the header's JSON.
pub(super) struct Stretch<'a> {
    pub(super) source: &'a Source,
    pub(super) offset: u64,
    pub(super) end: u64,
}

impl io::Read for Stretch<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let n = out.len().min(rest);
        self.source.read_exact_at(self.offset, &mut out[..n])?;
        self.offset += n as u64;
        Ok(n)
    }
}
