//! The digest of a checkpoint's bytes, which identifies it.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::Checkpoint;
use super::source::Stretch;
use crate::error::Result;
use crate::files::hex;

/// Bytes per read: the staging size of the tensor readers.
const BUFFER_BYTES: usize = 1 << 20;

impl Checkpoint {
    /// Returns the SHA-256 of the weights in hexadecimal. For one file, it equals the
    /// output of `sha256sum model.safetensors`. For several shards, it is the digest of
    /// the lines that `sha256sum` prints for them, in name order and without the names.
    /// For synthetic tensors it is computed the same way, with each tensor as a file.
    /// Reads all bytes.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::Model`](crate::Error::Model) if a
    /// file cannot be read or has become shorter.
    pub fn sha256(&self) -> Result<String> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut digests = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let mut hasher = Sha256::new();
            let mut stretch = Stretch { source, offset: 0, end: source.len_bytes() };
            loop {
                match stretch.read(&mut buffer).map_err(|error| source.read_error(error))? {
                    0 => break,
                    n => hasher.update(&buffer[..n]),
                }
            }
            digests.push(hex(&hasher.finalize()));
        }
        match &digests[..] {
            [only] => Ok(only.clone()),
            several => Ok(hex(&Sha256::digest((several.join("\n") + "\n").as_bytes()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Fill, SyntheticTensor};

    #[test]
    fn the_digest_of_one_file_is_the_documented_one() {
        let dir = std::path::Path::new("weights");
        let digest = Checkpoint::open_dir(dir).unwrap().sha256().unwrap();
        let readme = std::fs::read_to_string("weights/README.md").unwrap();
        assert!(readme.contains(&format!("{digest}  model.safetensors")), "{digest}");
    }

    #[test]
    fn shards_and_synthetic_tensors_have_a_digest_too() {
        let dir = std::path::Path::new("tests/golden/gpt2-variants/gelu_pytorch_tanh-sharded");
        let shards = Checkpoint::open_dir(dir).unwrap().sha256().unwrap();
        let lines: Vec<String> = (1..=2)
            .map(|i| std::fs::read(dir.join(format!("model-0000{i}-of-00002.safetensors"))).unwrap())
            .map(|bytes| hex(&Sha256::digest(&bytes)) + "\n")
            .collect();
        assert_eq!(shards, hex(&Sha256::digest(lines.concat().as_bytes())));
        let formula = |seed| {
            let tensor = |name: &str| SyntheticTensor {
                name: name.into(),
                shape: vec![3],
                fill: Fill::Random { std: 1.0 },
            };
            Checkpoint::synthetic(vec![tensor("a"), tensor("b")], seed).unwrap().sha256().unwrap()
        };
        assert_eq!(formula(1), formula(1));
        assert_ne!(formula(1), formula(2));
    }
}
