//! Arbitrary multiple-choice questions.

use serde::Deserialize;
use serde_json::Value;

use super::file::TextFile;
use super::question::Question;
use crate::plural;
use wgpt::Result;

#[derive(Deserialize)]
struct Choices {
    context: String,
    choices: Vec<String>,
    /// The right answer: a number from 0, or a letter from A.
    answer: Value,
}

/// Reads lines of the form `{"context": ..., "choices": [...], "answer": ...}`. The
/// number of choices may differ from line to line.
///
/// # Errors
/// [`wgpt::Error::Input`] with file and line for a missing, empty or out-of-range value,
/// and for fewer than two choices.
pub(super) fn read(file: &TextFile) -> Result<Vec<Question>> {
    file.json_lines()
        .map(|line| {
            let (line, Choices { context, choices, answer }) = line?;
            if choices.len() < 2 {
                let found = plural(choices.len(), "choice");
                return Err(file.fault(line, format!("{found}: expected 2 or more")));
            }
            let gold = match &answer {
                Value::Number(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
                Value::String(text) => letter(text),
                _ => None,
            };
            let gold = gold.filter(|&gold| gold < choices.len()).ok_or_else(|| {
                let last = choices.len() - 1;
                file.fault(
                    line,
                    format!(
                        "answer = {answer}: expected a number from 0 to {last} or a letter from A, for {} choices",
                        choices.len()
                    ),
                )
            })?;
            Question::new(line, context, &choices, gold).checked(&file.path)
        })
        .collect()
}

/// Returns the number of a capital letter; A is 0.
pub(super) fn letter(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => None,
    }
}
