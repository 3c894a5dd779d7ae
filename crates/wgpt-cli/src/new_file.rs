//! Files that a command writes, beside those that it reads.

use std::path::Path;

use wgpt::Error;
use wgpt::files::NewFile;

/// Starts writing the file `path`, as [`NewFile::create`] does, but refuses to replace a
/// file that the program reads.
///
/// # Errors
/// As [`NewFile::create`]; [`Error::Input`] if `path` is one of `inputs`.
pub fn create_beside<'p>(path: &Path, inputs: impl IntoIterator<Item = &'p Path>) -> Result<NewFile, Error> {
    let own = path.canonicalize();
    let same = |input: &&Path| own.is_ok() && input.canonicalize().ok() == own.as_ref().ok().cloned();
    match inputs.into_iter().find(same) {
        Some(input) => Err(Error::Input(format!(
            "{}: would be written over {}, which is read: name another file",
            path.display(),
            input.display()
        ))),
        None => NewFile::create(path),
    }
}
