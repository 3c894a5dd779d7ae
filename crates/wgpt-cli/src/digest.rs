//! Identifies the text that a report is about.

use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use wgpt::files::hex;

/// The file of a text, and its digest.
#[derive(Debug, Serialize)]
pub struct DataInfo {
    /// The file name as the user gave it.
    file: String,
    /// The SHA-256 of the file's bytes, in hexadecimal.
    sha256: String,
}

impl DataInfo {
    /// Describes a text that was read from the file `path`.
    pub fn new(path: &Path, text: &str) -> Self {
        let sha256 = hex(&Sha256::digest(text.as_bytes()));
        DataInfo { file: path.display().to_string(), sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_matches_sha256sum() {
        // FIPS 180-2, B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(DataInfo::new(Path::new("x"), "abc").sha256, expected);
    }
}
