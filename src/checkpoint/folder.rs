//! The location of a model's files: a directory, or byte sources by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use super::source::Source;
use crate::error::{Error, Result};
use crate::files::read_bounded;

/// The bytes of a file, wherever an application stores them: in memory, in an archive, or
/// in its own storage. Tensors are read by position in blocks of at most 4 MiB. While a
/// model is loaded, one thread at a time reads them.
pub trait ByteSource: Send + Sync {
    /// Returns the length in bytes. It must not change.
    fn len_bytes(&self) -> u64;

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if there are fewer bytes; any error of the storage.
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl<T: AsRef<[u8]> + Send + Sync> ByteSource for T {
    fn len_bytes(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(out.len());
        out.copy_from_slice(self.as_ref().get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A model's files by name.
#[derive(Clone)]
pub enum Folder {
    /// A directory.
    Dir(PathBuf),
    /// Byte sources.
    Sources {
        /// The model's name. Messages use it in place of a directory name.
        name: String,
        /// By file name.
        files: BTreeMap<String, Arc<dyn ByteSource>>,
    },
}

impl Folder {
    /// Returns a file's name for messages.
    #[must_use]
    pub fn display(&self, file: &str) -> String {
        match self {
            Folder::Dir(dir) => dir.join(file).display().to_string(),
            Folder::Sources { name, .. } => format!("{name}/{file}"),
        }
    }

    /// Returns whether a file of that name exists. A dangling link counts as existing,
    /// because opening it gives a better message than "not found".
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        match self {
            Folder::Dir(dir) => dir.join(file).symlink_metadata().is_ok(),
            Folder::Sources { files, .. } => files.contains_key(file),
        }
    }

    /// Reads a whole file of at most `max_bytes`; returns `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Model`] if it is not a regular file
    /// or is longer.
    pub fn read_if_present(&self, file: &str, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Folder::Dir(dir) => match read_bounded(&dir.join(file), max_bytes) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Folder::Sources { files, .. } => {
                files.get(file).map(|source| self.read_source(file, &**source, max_bytes)).transpose()
            }
        }
    }

    /// Like [`Folder::read_if_present`], for a file that must exist.
    ///
    /// # Errors
    /// As [`Folder::read_if_present`]; also if there is no such file.
    pub fn read(&self, file: &str, max_bytes: u64) -> Result<Vec<u8>> {
        match self {
            Folder::Dir(dir) => read_bounded(&dir.join(file), max_bytes),
            Folder::Sources { name, .. } => self
                .read_if_present(file, max_bytes)?
                .ok_or_else(|| Error::model(name, format!("the model's files have no {file}: add it"))),
        }
    }

    fn read_source(&self, file: &str, source: &dyn ByteSource, max_bytes: u64) -> Result<Vec<u8>> {
        let len = source.len_bytes();
        if len > max_bytes {
            let message = format!("has more than {max_bytes} bytes, the most that such a file may have");
            return Err(Error::model(self.display(file), message));
        }
        let mut bytes = vec![0; len as usize];
        source.read_exact_at(0, &mut bytes).map_err(|source| Error::Io {
            action: "read",
            path: PathBuf::from(self.display(file)),
            source,
        })?;
        Ok(bytes)
    }

    /// Opens a file for positioned reads.
    pub(super) fn open(&self, file: &str) -> Result<Source> {
        match self {
            Folder::Dir(dir) => Source::open(&dir.join(file)),
            Folder::Sources { name, files } => files
                .get(file)
                .map(|source| Source::shared(&self.display(file), Arc::clone(source)))
                .ok_or_else(|| Error::model(name, format!("the model's files have no {file}: add it"))),
        }
    }

    /// Lists the names of all files, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        match self {
            Folder::Dir(dir) => names_in(dir),
            Folder::Sources { files, .. } => Ok(files.keys().cloned().collect()),
        }
    }
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let io_error = |source| Error::Io { action: "read", path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error)? {
        names.push(entry.map_err(io_error)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Folder::Dir(dir) => dir.display().fmt(f),
            Folder::Sources { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Folder::Dir(dir) => f.debug_tuple("Dir").field(dir).finish(),
            Folder::Sources { name, files } => {
                f.debug_struct("Sources").field("name", name).field("files", &files.keys()).finish()
            }
        }
    }
}
