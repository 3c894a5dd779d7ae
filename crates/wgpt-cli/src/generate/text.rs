//! Prints a generation as text, piece by piece.

use std::fmt::Write;

use wgpt::{Piece, TokenLogprobs, Tokenizer};

use crate::output::print;

/// Writes pieces to stdout and stores their log-probabilities.
pub struct TextWriter {
    has_text: bool,
    /// Whether something was written that did not end with a newline.
    in_line: bool,
    logprobs: Vec<TokenLogprobs>,
}

impl TextWriter {
    /// Creates a writer; without text, it writes token ids separated by spaces.
    pub fn new(has_text: bool) -> Self {
        TextWriter { has_text, in_line: false, logprobs: Vec::new() }
    }

    /// Writes the prompt.
    pub fn echo(&mut self, prompt: &[u32], tokenizer: Option<&Tokenizer>) -> anyhow::Result<()> {
        match tokenizer {
            Some(tokenizer) => self.write(&tokenizer.decode(prompt, false)?),
            None => prompt.iter().try_for_each(|&id| self.id(id)),
        }
    }

    /// Writes one piece.
    pub fn piece(&mut self, piece: Piece) -> anyhow::Result<()> {
        self.logprobs.extend(piece.logprobs);
        match piece.token {
            Some(id) if !self.has_text => self.id(id),
            _ => self.write(&piece.text),
        }
    }

    fn id(&mut self, id: u32) -> anyhow::Result<()> {
        let space = if self.in_line { " " } else { "" };
        self.write(&format!("{space}{id}"))
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.in_line = !text.ends_with('\n');
        print(text)
    }

    /// Ends the last line.
    pub fn end_line(&mut self) -> anyhow::Result<()> {
        if self.in_line { self.write("\n") } else { Ok(()) }
    }

    /// Formats one line per token: its log-probability, then the most likely tokens.
    pub fn logprobs_table(&self, tokenizer: Option<&Tokenizer>) -> String {
        let name = |id: u32| match tokenizer.and_then(|tokenizer| tokenizer.decode(&[id], false).ok()) {
            Some(text) => format!("{id} {text:?}"),
            None => id.to_string(),
        };
        let mut table = String::from("token: log-probability | most likely tokens");
        for TokenLogprobs { token, logprob, top } in &self.logprobs {
            // Writing to a string cannot fail.
            let _ = write!(table, "\n{}: {logprob:.4} |", name(*token));
            for (token, logprob) in top {
                let _ = write!(table, " {}: {logprob:.4},", name(*token));
            }
            table.truncate(table.trim_end_matches([',', '|']).trim_end().len());
        }
        table
    }
}
