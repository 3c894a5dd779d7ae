//! Prompts from a flag, a file, stdin, or token ids.

use std::io::Read;
use std::path::{Path, PathBuf};

use wgpt::{Error, ModelFiles};

use super::interrupt::blocked;

/// The source of the prompt: exactly one of four.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct PromptArgs {
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// UTF-8 file with the prompt, `-` for stdin; a newline at its end is dropped
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
    /// Token ids of the prompt, separated by commas; they need no tokenizer
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',', value_parser = token_id)]
    pub tokens: Option<Vec<u32>>,
    /// Read the prompt from stdin
    #[arg(value_name = "-", value_parser = ["-"])]
    pub stdin: Option<String>,
}

fn token_id(s: &str) -> Result<u32, String> {
    s.trim().parse().map_err(|_| "expected a token id, a whole number".to_owned())
}

impl PromptArgs {
    /// Returns the prompt's token ids.
    ///
    /// Only text needs a tokenizer. With token ids the tokenizer may be missing, but not
    /// damaged.
    pub fn tokens(&self, files: &ModelFiles) -> Result<Vec<u32>, Error> {
        if let Some(tokens) = &self.tokens {
            if files.has_tokenizer() {
                files.tokenizer()?;
            }
            return Ok(tokens.clone());
        }
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => without_newline(read_text(path)?),
            (None, None) => without_newline(read_text(Path::new("-"))?),
        };
        files.tokenizer()?.encode(&text)
    }
}

/// Removes the final newline, which editors and `echo` add unintentionally.
fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Reads the text of a file, or of stdin for `-`.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let (read, path) = if path == Path::new("-") {
        (blocked(|| std::io::stdin().lock().read_to_end(&mut bytes).map(drop)), Path::new("stdin"))
    } else {
        // The file may be a pipe, which waits for its writer.
        let read = || std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        (blocked(read).map(drop), path)
    };
    read.map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::Input(format!("{}: byte {at} is not UTF-8 text: convert the file to UTF-8", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::without_newline;

    #[test]
    fn one_trailing_newline_is_removed() {
        for (text, expected) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("\n", ""), ("\r", "\r")]
        {
            assert_eq!(without_newline(text.into()), expected);
        }
    }
}
