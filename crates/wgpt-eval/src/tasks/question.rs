//! A question of a task, formatted by a convention.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::file::fault;
use wgpt::Result;

/// Separator between a question and its answer in a prompt: lm-eval's `target_delimiter`,
/// and the string that llm.c puts before an ending.
pub(super) const DELIMITER: &str = " ";
/// Separator after each shot: lm-eval's `fewshot_delimiter`.
const SHOT_DELIMITER: &str = "\n\n";

/// Convention for prompts and for the length norm of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// lm-evaluation-harness 0.4: context and ending are tokenized together. acc_norm
    /// divides a sum by the ending's length in characters.
    #[default]
    LmEval,
    /// llm.c (`dev/data/hellaswag.py`, `mmlu.py`): raw context and ending are tokenized
    /// separately. acc_norm divides a sum by the ending's number of tokens.
    Llmc,
}

impl Convention {
    /// Returns the name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Convention::LmEval => "lm-eval",
            Convention::Llmc => "llmc",
        }
    }
}

/// A question and the answers from which a model chooses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    /// Text before the answers, without shots and heading.
    pub context: String,
    /// Answers as they follow the context, including the space between. LAMBADA has only
    /// one, the word to predict.
    pub continuations: Vec<String>,
    /// Index of the right answer, from 0.
    pub gold: usize,
    /// Index into [`super::Dataset::subjects`].
    pub subject: usize,
    /// Line of the question in its file, from 1.
    pub line: usize,
}

impl Question {
    /// Creates a question from answers without a leading space.
    pub(super) fn new(line: usize, context: String, answers: &[String], gold: usize) -> Self {
        let continuations = answers.iter().map(|answer| format!("{DELIMITER}{answer}")).collect();
        Question { context, continuations, gold, subject: 0, line }
    }

    /// Returns the length of an answer in characters, as counted by Python's `len`.
    /// lm-eval's acc_norm divides by it.
    #[must_use]
    pub fn answer_chars(&self, answer: usize) -> usize {
        self.continuations[answer].chars().count() - DELIMITER.len()
    }

    /// Returns the question with its right answer, formatted as a shot before another
    /// question.
    pub(super) fn as_shot(&self) -> String {
        format!("{}{}{SHOT_DELIMITER}", self.context, self.continuations[self.gold])
    }

    /// Checks the requirements that all tasks share.
    ///
    /// # Errors
    /// [`wgpt::Error::Input`] with file and line for an empty answer, and for a right
    /// answer that does not exist.
    pub(super) fn checked(self, path: &std::path::Path) -> Result<Self> {
        if let Some(empty) = self.continuations.iter().position(|answer| answer.trim().is_empty()) {
            let message = format!("ending {empty} is empty: give it text or remove the question");
            return Err(fault(path, self.line, message));
        }
        let n = self.continuations.len();
        if self.gold >= n {
            return Err(fault(
                path,
                self.line,
                format!("the answer is {}, but there are {n} endings: expected 0 to {}", self.gold, n - 1),
            ));
        }
        Ok(self)
    }
}

/// Questions that share their heading, shots and file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// Name of the subject in MMLU, otherwise the task's name.
    pub name: String,
    /// Path of the file with the questions.
    pub path: PathBuf,
    /// Text that begins each prompt.
    pub heading: String,
    /// Answered questions between the heading and the question.
    pub shots: Vec<String>,
}

impl Subject {
    /// Returns the context of a question, preceded by the heading and by all shots except
    /// the first `dropped`.
    #[must_use]
    pub fn prompt(&self, question: &Question, dropped: usize) -> String {
        let shots = self.shots[dropped.min(self.shots.len())..].concat();
        format!("{}{shots}{}", self.heading, question.context)
    }
}
