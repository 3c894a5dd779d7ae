//! A file that appears under its name only when it is complete; no reader sees a partial
//! file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use wgpt::Error;

use super::interrupt;

/// A file being written under a temporary name in the target's directory, so that the
/// final rename stays within one file system.
pub struct AtomicFile {
    target: PathBuf,
    /// Removed when the value is dropped unfinished.
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Starts writing the file `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be created, or `path` is something other than a
    /// file.
    pub fn create(path: &Path) -> Result<Self, Error> {
        // A symbolic link stays; the file it points to is replaced.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let failed = |source| Error::Io { action: "write", path: path.to_owned(), source };
        if target.exists() && !target.is_file() {
            return Err(failed(io::Error::other("it is not a file")));
        }
        let name = target.file_name().ok_or_else(|| failed(io::Error::other("it has no file name")))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(failed)?;
        interrupt::begin_file(&temporary);
        Ok(AtomicFile { target, temporary, file: Some(BufWriter::new(file)) })
    }

    /// Like [`AtomicFile::create`], but refuses to replace a file that the program reads.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`Error::Input`] if `path` is one of `inputs`.
    pub fn create_beside<'p>(path: &Path, inputs: impl IntoIterator<Item = &'p Path>) -> Result<Self, Error> {
        let own = path.canonicalize();
        let same = |input: &&Path| own.is_ok() && input.canonicalize().ok() == own.as_ref().ok().cloned();
        match inputs.into_iter().find(same) {
            Some(input) => Err(Error::Input(format!(
                "{}: would be written over {}, which is read: name another file",
                path.display(),
                input.display()
            ))),
            None => Self::create(path),
        }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(|source| self.failed(source)),
            None => Ok(()),
        }
    }

    /// Flushes the file to disk and renames it to its final name.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or fails.
    pub fn finish(mut self) -> Result<(), Error> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.target))
            .map_err(|source| self.failed(source))
    }

    /// Returns the error for a failed write to this file.
    pub fn failed(&self, source: io::Error) -> Error {
        Error::Io { action: "write", path: self.target.clone(), source }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // Windows cannot remove an open file. After the rename there is no temporary file
        // left.
        self.file = None;
        let _ = fs::remove_file(&self.temporary);
        interrupt::end_file(&self.temporary);
    }
}
