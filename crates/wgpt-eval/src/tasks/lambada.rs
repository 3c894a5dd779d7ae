//! LAMBADA (Paperno et al. 2016) in OpenAI's form: the last word of a passage.

use serde::Deserialize;

use super::file::TextFile;
use super::question::Question;
use wgpt::Result;

#[derive(Deserialize)]
struct Passage {
    text: String,
}

/// Reads lines of the form `{"text": ...}`. The last word is the text after the last
/// space, and the space belongs to it.
///
/// # Errors
/// [`wgpt::Error::Input`] with file and line for a missing field, and for a text that
/// does not end in a word.
pub(super) fn read(file: &TextFile) -> Result<Vec<Question>> {
    file.json_lines()
        .map(|line| {
            let (line, Passage { text }) = line?;
            let (context, word) = text.rsplit_once(' ').unwrap_or(("", &text));
            if word.trim().is_empty() {
                return Err(file.fault(
                    line,
                    "the text does not end in a word to predict: it is empty or ends in a space",
                ));
            }
            Question::new(line, context.to_owned(), &[word.to_owned()], 0).checked(&file.path)
        })
        .collect()
}
