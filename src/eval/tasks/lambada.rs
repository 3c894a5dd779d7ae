//! LAMBADA (Paperno et al. 2016) in OpenAI's form: the last word of a passage.

use serde::Deserialize;

use super::file::TextFile;
use super::question::Question;
use crate::error::Result;

#[derive(Deserialize)]
struct Passage {
    text: String,
}

/// Reads `{"text": ...}` lines. The last word is what follows the last blank; the
/// blank goes with it.
///
/// # Errors
/// [`crate::Error::Input`] with file and line for a missing field or a text without
/// a word at its end.
pub(super) fn read(file: &TextFile) -> Result<Vec<Question>> {
    file.json_lines()
        .map(|line| {
            let (line, Passage { text }) = line?;
            let (context, word) = text.rsplit_once(' ').unwrap_or(("", &text));
            if word.trim().is_empty() {
                return Err(file.fault(
                    line,
                    "the text ends in a blank, not in the word to be guessed: remove the blank",
                ));
            }
            Question::new(line, context.to_owned(), &[word.to_owned()], 0).checked(&file.path)
        })
        .collect()
}
