//! Reads files as documents.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use wgpt::files::hex;
use wgpt::{Error, Tokenizer};
use wgpt_eval::perplexity::{Document, Protocol, Split, join};

use crate::prompt::read_text;

/// The texts of a run.
pub struct Input {
    pub files: Vec<FileInfo>,
    /// SHA-256 of all files' bytes in order, in hexadecimal.
    pub sha256: String,
    pub documents: Vec<Document>,
}

/// The data of a file in a report.
#[derive(Debug, Serialize)]
pub struct FileInfo {
    pub path: String,
    pub bytes: usize,
    pub sha256: String,
}

impl Input {
    /// Reads the files and splits them into documents as the protocol requires.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] for a file that is not UTF-8 or has no text, and
    /// for a separator that occurs in no file.
    pub fn read(
        paths: &[PathBuf],
        split: &Split,
        protocol: Protocol,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Error> {
        if paths.iter().filter(|path| *path == Path::new("-")).count() > 1 {
            return Err(Error::Input(
                "stdin (-) is named more than once, but it can be read only once".to_owned(),
            ));
        }
        let mut all = Sha256::new();
        let (mut files, mut texts) = (Vec::new(), Vec::new());
        for path in paths {
            let text = read_text(path)?;
            let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
            if text.trim().is_empty() {
                let found =
                    if text.is_empty() { "the file is empty" } else { "the file contains only white space" };
                return Err(Error::Input(format!("{name}: {found}: there is no text to score")));
            }
            all.update(&text);
            files.push(FileInfo { path: name, bytes: text.len(), sha256: hex(&Sha256::digest(&text)) });
            texts.push(text);
        }
        if let Split::Separator(separator) = split
            && !texts.iter().any(|text| text.contains(separator.as_str()))
        {
            return Err(Error::Input(format!(
                "--documents: the separator {separator:?} occurs in none of the files: check its spelling, or use \
                 lines or blank-lines"
            )));
        }
        let documents = documents(&files, &texts, split, protocol, tokenizer)?;
        Ok(Input { files, sha256: hex(&all.finalize()), documents })
    }
}

fn documents(
    files: &[FileInfo],
    texts: &[String],
    split: &Split,
    protocol: Protocol,
    tokenizer: &Tokenizer,
) -> Result<Vec<Document>, Error> {
    let pieces: Vec<Vec<&str>> = texts.iter().map(|text| split.apply(text)).collect();
    if let Some(i) = pieces.iter().position(|pieces| pieces.iter().all(|piece| piece.trim().is_empty())) {
        return Err(Error::Input(format!(
            "{}: --documents finds no document: there is no text between the separators",
            files[i].path
        )));
    }
    if protocol.is_stream() {
        let others = match files.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let stream = join(&pieces.concat());
        return Ok(vec![Document::new(tokenizer, format!("{}{others}", files[0].path), &stream)?]);
    }
    let mut documents = Vec::new();
    for (file, pieces) in files.iter().zip(&pieces) {
        for (i, text) in pieces.iter().enumerate() {
            let name = match split {
                Split::File => file.path.clone(),
                _ => format!("{}, document {}", file.path, i + 1),
            };
            documents.push(Document::new(tokenizer, name, text)?);
        }
    }
    Ok(documents)
}
