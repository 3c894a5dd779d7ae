//! Reading of files up to a maximum size, and writing of files completely or not at all.
//!
//! A new file is written under a temporary name in its directory and renamed when it is
//! complete. No reader sees a partial file. An older file of that name stays until the
//! rename.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Reads a regular file of at most `max_bytes`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Model`] if it is not a regular file or is
/// longer.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let io_error = |action: &'static str, source| Error::Io { action, path: path.to_owned(), source };
    let bad_file = |message: String| Error::model(path.display().to_string(), message);
    read_regular(path, max_bytes).map_err(|error| match error {
        ReadError::Open(source) => io_error("open", source),
        ReadError::Read(source) => io_error("read", source),
        ReadError::NotRegular => bad_file(NOT_REGULAR.to_owned()),
        ReadError::TooLong => {
            bad_file(format!("has more than {max_bytes} bytes, the maximum for such a file"))
        }
    })
}

/// Reads a regular file of at most `max_bytes`; returns `None` if the file does not exist.
///
/// # Errors
/// The error of the operating system; also an error if it is not a regular file or is
/// longer.
pub fn read_if_present(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    match read_regular(path, max_bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ReadError::Open(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(ReadError::Open(error) | ReadError::Read(error)) => Err(error),
        Err(ReadError::NotRegular) => Err(io::Error::other(NOT_REGULAR)),
        Err(ReadError::TooLong) => Err(io::Error::other(format!("it has more than {max_bytes} bytes"))),
    }
}

const NOT_REGULAR: &str = "expected a file, found a directory or device";

/// The reason why [`read_regular`] failed.
enum ReadError {
    Open(io::Error),
    Read(io::Error),
    /// The path is a directory, a device or the like.
    NotRegular,
    TooLong,
}

/// Reads a regular file of at most `max_bytes`.
fn read_regular(path: &Path, max_bytes: u64) -> Result<Vec<u8>, ReadError> {
    // Checked first, because opening a pipe would wait for its writer.
    if !path.metadata().map_err(ReadError::Open)?.is_file() {
        return Err(ReadError::NotRegular);
    }
    let file = File::open(path).map_err(ReadError::Open)?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(ReadError::Read)?;
    if bytes.len() as u64 > max_bytes { Err(ReadError::TooLong) } else { Ok(bytes) }
}

/// Writes `dir/name`, and creates the directory if it is missing. If several writers
/// write at once, the last one wins.
///
/// # Errors
/// [`Error::Io`] if the directory or the file cannot be written.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = Temporary::create(dir)?;
        file.write_all(bytes)?;
        file.rename(&path)
    };
    write().map_err(|source| Error::Io { action: "write", path: path.clone(), source })
}

/// Checks that [`write()`] could write into `dir`.
///
/// # Errors
/// [`Error::Io`] if it could not.
pub(crate) fn check_writable(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).and_then(|()| Temporary::create(dir)).map(drop).map_err(|source| Error::Io {
        action: "write",
        path: dir.to_owned(),
        source,
    })
}

/// Writes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that gets its name only when it is complete. It is deleted if it is dropped
/// before.
#[cfg_attr(feature = "internals", visibility::make(pub))]
pub(crate) struct NewFile {
    target: PathBuf,
    temporary: BufWriter<Temporary>,
}

impl NewFile {
    /// Starts writing the file `path`. An existing file of that name stays until
    /// [`NewFile::finish`].
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be written, or if `path` exists and is not a
    /// regular file.
    pub fn create(path: &Path) -> Result<Self> {
        let failed = |source| Error::Io { action: "write", path: path.to_owned(), source };
        // A symbolic link stays; its target is replaced.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if target.exists() && !target.is_file() {
            return Err(failed(io::Error::other("it is not a file")));
        }
        if target.file_name().is_none() {
            return Err(failed(io::Error::other("it has no file name")));
        }
        let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = BufWriter::new(Temporary::create(dir).map_err(failed)?);
        Ok(NewFile { target, temporary })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk is full or fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.temporary.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk is full or fails.
    pub fn finish(self) -> Result<()> {
        let NewFile { target, temporary } = self;
        let file = temporary.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| {
            file.file.as_file().sync_all()?;
            file.rename(&target)
        })
        .map_err(|source| Error::Io { action: "write", path: target, source })
    }

    /// Returns the error for a failed write to this file.
    pub fn failed(&self, source: io::Error) -> Error {
        Error::Io { action: "write", path: self.target.clone(), source }
    }
}

/// Deletes every file that is being written, for a program that is about to end without
/// dropping its values.
#[cfg_attr(feature = "internals", visibility::make(pub))]
pub(crate) fn remove_unfinished() {
    for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // The program ends, so an error cannot be handled.
        let _ = std::fs::remove_file(path);
    }
}

/// The temporary files that exist.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file with a temporary name, deleted unless it is renamed.
struct Temporary {
    file: NamedTempFile,
    /// Declared after the file, so that it is dropped after it.
    _entry: Entry,
}

/// A file's entry in [`UNFINISHED`].
struct Entry(PathBuf);

impl Temporary {
    fn create(dir: &Path) -> io::Result<Self> {
        // The lock is held while the file is created, so `remove_unfinished` misses no
        // file.
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        // Opened here and not by tempfile, so that the umask applies as to any new file, and
        // errors do not name the temporary file.
        let open = |path: &Path| File::options().read(true).write(true).create_new(true).open(path);
        let file = tempfile::Builder::new().prefix(".wgpt-").suffix(".tmp").make_in(dir, open)?;
        let path = file.path().to_owned();
        unfinished.push(path.clone());
        Ok(Temporary { file, _entry: Entry(path) })
    }

    fn rename(self, target: &Path) -> io::Result<()> {
        self.file.persist(target).map(drop).map_err(|error| error.error)
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        assert!(read_if_present(&inner.join("x"), 10).unwrap().is_none());
        write(&inner, "x", b"first").unwrap();
        write(&inner, "x", b"second").unwrap();
        assert_eq!(read_if_present(&inner.join("x"), 6).unwrap().unwrap(), b"second");
        let error = read_if_present(&inner.join("x"), 5).unwrap_err().to_string();
        assert!(error.contains("more than 5 bytes"), "{error}");
        check_writable(&inner).unwrap();
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_not_read_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_if_present(dir.path(), 10).unwrap_err().to_string();
        assert_eq!(error, NOT_REGULAR);
        let error = read_bounded(dir.path(), 10).unwrap_err().to_string();
        assert!(error.contains(NOT_REGULAR), "{error}");
    }

    #[test]
    fn an_unwritable_path_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = write(&file, "x", b"").unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("file"), "{error}");
        assert!(check_writable(&file).is_err());
    }

    #[test]
    fn concurrent_writers_leave_a_complete_file() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let dir = dir.path();
                scope.spawn(move || {
                    for _ in 0..20 {
                        write(dir, "x", &[writer; 10_000]).unwrap();
                        let found = read_if_present(&dir.join("x"), 10_000).unwrap().unwrap();
                        assert!(found.len() == 10_000 && found.iter().all(|byte| *byte == found[0]));
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unfinished_file_is_deleted_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "old").unwrap();
        let mut file = NewFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let mut file = NewFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_do_not_name_the_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = NewFile::create(&missing.join("out")).err().unwrap().to_string();
        let system = File::create(missing.join("out")).unwrap_err();
        assert_eq!(error, format!("cannot write {}: {system}", missing.join("out").display()));
    }

    #[test]
    #[cfg(unix)]
    fn file_modes_follow_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        std::fs::write(dir.path().join("plain"), "").unwrap();
        write(dir.path(), "written", b"").unwrap();
        NewFile::create(&dir.path().join("new")).unwrap().finish().unwrap();
        assert_eq!((mode("written"), mode("new")), (mode("plain"), mode("plain")));
    }
}
