//! Files that a command writes. They must differ from the files that it reads.

use std::path::{Path, PathBuf};

use wgpt::Error;
use wgpt::files::NewFile;

/// Starts writing the file `path`, as [`NewFile::create`] does, but refuses to replace a
/// file that the program reads.
///
/// # Errors
/// As [`NewFile::create`]; [`Error::Input`] if `path` is one of `inputs`.
pub fn create_distinct<'p>(
    path: &Path,
    inputs: impl IntoIterator<Item = &'p Path>,
) -> Result<NewFile, Error> {
    let own = path.canonicalize();
    let same = |input: &&Path| own.is_ok() && input.canonicalize().ok() == own.as_ref().ok().cloned();
    match inputs.into_iter().find(same) {
        Some(input) => Err(Error::Input(format!(
            "{}: this would overwrite the input {}: name another file",
            path.display(),
            input.display()
        ))),
        None => NewFile::create(path),
    }
}

/// Refuses two outputs that are the same file, even if their paths differ in spelling.
///
/// # Errors
/// [`Error::Input`] that names both options.
pub fn check_distinct(outputs: &[(&str, Option<&Path>)]) -> Result<(), Error> {
    let named: Vec<_> = outputs.iter().filter_map(|&(option, path)| Some((option, place(path?)))).collect();
    for (i, (option, place)) in named.iter().enumerate() {
        if let Some((first, _)) = named[..i].iter().find(|(_, other)| other == place) {
            return Err(Error::Input(format!(
                "{first} and {option} name the same file, {}: name two different files",
                place.display()
            )));
        }
    }
    Ok(())
}

/// Returns the absolute path of a file that may not exist yet.
fn place(path: &Path) -> PathBuf {
    if let Ok(place) = path.canonicalize() {
        return place;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (dir.canonicalize(), path.file_name()) {
        (Ok(dir), Some(name)) => dir.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_under_two_paths_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("old"), "").unwrap();
        for (a, b, same) in [
            ("new", "new", true),
            ("new", "sub/../new", true),
            ("old", "./old", true),
            ("new", "sub/new", false),
            ("old", "new", false),
        ] {
            let (a, b) = (at(a), at(b));
            let found = check_distinct(&[("--a", Some(&a)), ("--none", None), ("--b", Some(&b))]);
            assert_eq!(found.is_err(), same, "{} {}", a.display(), b.display());
        }
        let error =
            check_distinct(&[("--a", Some(&at("x"))), ("--b", Some(&at("x")))]).unwrap_err().to_string();
        assert!(error.contains("--a and --b name the same file"), "{error}");
    }
}
