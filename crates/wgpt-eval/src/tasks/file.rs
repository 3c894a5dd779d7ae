//! Data files, read whole as UTF-8. Errors name the file and the line.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use wgpt::{Error, Result};

/// A text with its path and its digest.
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// SHA-256 of the file's bytes in hexadecimal.
    pub(super) sha256: String,
}

impl TextFile {
    /// Reads a file and drops a byte order mark at its start.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Input`] with file and line if
    /// it is empty or not UTF-8.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
        let sha256 = hex_sha256(&bytes);
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
            fault(path, line, "the text is not UTF-8: convert the file to UTF-8")
        })?;
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        if text.trim().is_empty() {
            return Err(fault(path, 1, "the file is empty: expected questions"));
        }
        Ok(TextFile { path: path.to_owned(), text, sha256 })
    }

    /// Parses each non-blank line as JSON and returns it with its line number.
    ///
    /// # Errors
    /// [`Error::Input`] with file and line for a line that is not JSON, lacks a field of
    /// `T`, or has a field of the wrong type.
    pub(super) fn json_lines<T: DeserializeOwned>(&self) -> impl Iterator<Item = Result<(usize, T)>> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(i, line)| match serde_json::from_str(line) {
            Ok(value) => Ok((i + 1, value)),
            Err(error) => {
                let column = error.column();
                let message = error.to_string();
                let what = message.split(" at line ").next().unwrap_or(&message);
                let what =
                    if error.is_data() { what.to_owned() } else { format!("the line is not JSON: {what}") };
                Err(fault(
                    &self.path,
                    i + 1,
                    format!("{what} (column {column}): correct the line or remove it"),
                ))
            }
        })
    }

    pub(super) fn fault(&self, line: usize, message: impl std::fmt::Display) -> Error {
        fault(&self.path, line, message)
    }
}

/// Returns an input error that names the file and the line.
pub(super) fn fault(path: &Path, line: usize, message: impl std::fmt::Display) -> Error {
    Error::input(format!("{} line {line}: {message}", path.display()))
}

/// Returns the SHA-256 of `bytes` in hexadecimal.
pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    wgpt::files::hex(&Sha256::digest(bytes))
}
