//! A safetensors file that is written row by row and appears only when it is complete.

use std::io::{self, ErrorKind};

use serde_json::json;
use wgpt::Error;
use wgpt::files::NewFile;

use super::output::plural;

/// `input_ids` and the growing `logits`, under a temporary name.
///
/// The sizes are known in advance. So the header is written first, and each row when it is
/// computed. At most one row is in memory.
pub struct TensorFile {
    file: NewFile,
    rows_left: usize,
}

impl TensorFile {
    /// Starts a file for logits of shape `[input_ids.len(), vocab_size]`.
    ///
    /// # Errors
    /// As [`NewFile::write`].
    pub fn start(
        mut file: NewFile,
        input_ids: &[u32],
        vocab_size: usize,
        metadata: &[(&str, &str)],
    ) -> Result<Self, Error> {
        file.write(&header(input_ids.len(), vocab_size, metadata))?;
        input_ids.iter().try_for_each(|id| file.write(&id.to_le_bytes()))?;
        Ok(TensorFile { file, rows_left: input_ids.len() })
    }

    /// Appends the next row of logits.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or fails.
    pub fn row(&mut self, logits: &[f32]) -> Result<(), Error> {
        self.rows_left = self.rows_left.saturating_sub(1);
        logits.iter().try_for_each(|value| self.file.write(&value.to_le_bytes()))
    }

    /// Flushes the file to disk and renames it to its final name.
    ///
    /// # Errors
    /// [`Error::Io`], also when rows are missing.
    pub fn finish(self) -> Result<(), Error> {
        if self.rows_left > 0 {
            let message = format!("the file lacks {}", plural(self.rows_left, "row"));
            return Err(self.file.failed(io::Error::new(ErrorKind::UnexpectedEof, message)));
        }
        self.file.finish()
    }
}

/// Returns the header's length and the header, padded with spaces to a multiple of 8
/// bytes as the format requires.
fn header(n: usize, vocab_size: usize, metadata: &[(&str, &str)]) -> Vec<u8> {
    let ids_bytes = n * 4;
    let metadata: serde_json::Map<_, _> = metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    let mut text = json!({
        "__metadata__": metadata,
        "input_ids": { "dtype": "I32", "shape": [n], "data_offsets": [0, ids_bytes] },
        "logits": {
            "dtype": "F32",
            "shape": [n, vocab_size],
            "data_offsets": [ids_bytes, ids_bytes + n * vocab_size * 4],
        },
    })
    .to_string()
    .into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn create(
        path: &Path,
        input_ids: &[u32],
        vocab_size: usize,
        metadata: &[(&str, &str)],
    ) -> Result<TensorFile, Error> {
        TensorFile::start(NewFile::create(path)?, input_ids, vocab_size, metadata)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_finished_file_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.safetensors");
        let mut file = create(&path, &[7, 8], 3, &[("model", "m")]).unwrap();
        assert!(!path.exists());
        file.row(&[1.0, 2.0, 3.0]).unwrap();
        file.row(&[4.0, 5.0, f32::NEG_INFINITY]).unwrap();
        file.finish().unwrap();
        assert_eq!(names(dir.path()), ["out.safetensors"]);
        let bytes = fs::read(&path).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let logits = read.tensor("logits").unwrap();
        assert_eq!(logits.shape(), [2, 3]);
        assert_eq!(logits.data()[20..], f32::NEG_INFINITY.to_le_bytes());
        assert_eq!(read.tensor("input_ids").unwrap().data(), [7, 0, 0, 0, 8, 0, 0, 0]);
    }

    #[test]
    fn an_unfinished_file_is_removed_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.safetensors");
        fs::write(&path, "old").unwrap();
        let mut file = create(&path, &[7, 8], 1, &[]).unwrap();
        file.row(&[1.0]).unwrap();
        assert!(file.finish().unwrap_err().to_string().contains("lacks 1 row"));
        drop(create(&path, &[7, 8], 1, &[]).unwrap());
        assert_eq!(names(dir.path()), ["out.safetensors"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn only_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| create(path, &[1], 1, &[]).map(drop).unwrap_err().to_string();
        assert!(error(dir.path()).ends_with("it is not a file"));
        assert!(error(&dir.path().join("no/such/place")).starts_with("cannot write "));
        assert_eq!(names(dir.path()), [""; 0]);
    }
}
