//! Cache files, which are read and written completely or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Reads the bytes of `path`; returns `None` if there is no such file.
///
/// # Errors
/// The error of the operating system; also an error if the file exceeds `bytes_max`
/// bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(Some(bytes))
}

/// Writes `dir/name` under a temporary name first and then renames it. A reader sees
/// either the old file or the new one, and the last of several writers wins. Creates the
/// directory if it is missing.
///
/// # Errors
/// [`Error::Io`] when the place cannot be written.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let write = || -> io::Result<()> {
        let mut file = create(dir)?;
        file.write_all(bytes)?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| Error::Io { action: "write", path: path.clone(), source })
}

/// Checks that [`write`] could write into `dir`.
///
/// # Errors
/// [`Error::Io`] when it could not.
pub(crate) fn check_writable(dir: &Path) -> Result<()> {
    create(dir).map(drop).map_err(|source| Error::Io { action: "write", path: dir.to_owned(), source })
}

/// A file that appears under its name only when it is complete. Until then an existing
/// file of that name stays. For files too long to hold in memory.
pub(crate) struct NewFile {
    target: PathBuf,
    temporary: BufWriter<tempfile::NamedTempFile>,
}

impl NewFile {
    /// Starts writing the file `path`.
    ///
    /// # Errors
    /// The error of the operating system; also an error if `path` exists and is not a
    /// file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        // A symbolic link stays; its target is replaced.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if (target.exists() && !target.is_file()) || target.file_name().is_none() {
            return Err(io::Error::other("it is not a file"));
        }
        let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = BufWriter::new(unnamed(dir)?);
        Ok(NewFile { target, temporary })
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or fails.
    pub(crate) fn finish(self) -> Result<()> {
        let NewFile { target, temporary } = self;
        let file = temporary.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| {
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|error| error.error)
        })
        .map(drop)
        .map_err(|source| Error::Io { action: "write", path: target, source })
    }

    /// Returns the error for a failed write to this file.
    pub(crate) fn failed(&self, source: io::Error) -> Error {
        Error::Io { action: "write", path: self.target.clone(), source }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

fn create(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    std::fs::create_dir_all(dir)?;
    unnamed(dir)
}

/// Creates a file in `dir` that is deleted unless it is renamed.
fn unnamed(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".wgpt-").suffix(".tmp").tempfile_in(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        assert!(read(&inner.join("x"), 10).unwrap().is_none());
        write(&inner, "x", b"first").unwrap();
        write(&inner, "x", b"second").unwrap();
        assert_eq!(read(&inner.join("x"), 6).unwrap().unwrap(), b"second");
        assert!(read(&inner.join("x"), 5).unwrap_err().to_string().contains("more than 5 bytes"));
        check_writable(&inner).unwrap();
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = write(&file, "x", b"").unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("file"), "{error}");
        assert!(check_writable(&file).is_err());
    }

    #[test]
    fn writers_at_once_leave_a_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let dir = dir.path();
                scope.spawn(move || {
                    for _ in 0..20 {
                        write(dir, "x", &[writer; 10_000]).unwrap();
                        let found = read(&dir.join("x"), 10_000).unwrap().unwrap();
                        assert!(found.len() == 10_000 && found.iter().all(|byte| *byte == found[0]));
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
