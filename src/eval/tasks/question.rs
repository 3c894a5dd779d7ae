//! One question of a task, as a convention words it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::file::fault;
use crate::error::Result;

/// What is behind each answer of a question in the prompt: lm-eval's
/// `target_delimiter`, and what llm.c puts before an ending.
pub(super) const DELIMITER: &str = " ";
/// What separates the shots: lm-eval's `fewshot_delimiter`.
const SHOT_DELIMITER: &str = "\n\n";

/// Which wording and which norm a figure is computed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// lm-evaluation-harness 0.4: context and ending are tokenized together; acc_norm
    /// divides a sum by the ending's length in characters.
    #[default]
    LmEval,
    /// llm.c (`dev/data/hellaswag.py`, `mmlu.py`): raw context and ending are tokenized
    /// apart; acc_norm divides a sum by the ending's number of tokens.
    Llmc,
}

impl Convention {
    /// The name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Convention::LmEval => "lm-eval",
            Convention::Llmc => "llmc",
        }
    }
}

/// A question with the answers that a model chooses from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    /// What stands before the answers, shots and heading left out.
    pub context: String,
    /// The answers as they follow the context, the blank between included. LAMBADA has
    /// one, the word to be guessed.
    pub continuations: Vec<String>,
    /// Which one is right, from 0.
    pub gold: usize,
    /// Index into [`super::Dataset::subjects`].
    pub subject: usize,
    /// Where the question stands in its file, from 1.
    pub line: usize,
}

impl Question {
    /// A question from its answers without the blank in front.
    pub(super) fn new(line: usize, context: String, answers: &[String], gold: usize) -> Self {
        let continuations = answers.iter().map(|answer| format!("{DELIMITER}{answer}")).collect();
        Question { context, continuations, gold, subject: 0, line }
    }

    /// The length of an answer in characters, as Python's `len` counts it: what
    /// lm-eval's acc_norm divides by.
    #[must_use]
    pub fn answer_chars(&self, answer: usize) -> usize {
        self.continuations[answer].chars().count() - DELIMITER.len()
    }

    /// The question with its right answer, as it stands before another one.
    pub(super) fn as_shot(&self) -> String {
        format!("{}{}{SHOT_DELIMITER}", self.context, self.continuations[self.gold])
    }

    /// Checks what every task asks for.
    ///
    /// # Errors
    /// [`crate::Error::Input`] with file and line for an empty answer, and for a right
    /// one that is not among them.
    pub(super) fn checked(self, path: &std::path::Path) -> Result<Self> {
        if let Some(empty) = self.continuations.iter().position(|answer| answer.trim().is_empty()) {
            let message = format!("ending {empty} is empty: give it a text or take the question out");
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

/// Questions that share their heading, their shots and their file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// The task's name, or the subject's in MMLU.
    pub name: String,
    /// The file that the questions come from.
    pub path: PathBuf,
    /// What begins each prompt.
    pub heading: String,
    /// Questions with their answers that stand between heading and question.
    pub shots: Vec<String>,
}

impl Subject {
    /// The context of a question behind all shots but the first `dropped`.
    #[must_use]
    pub fn prompt(&self, question: &Question, dropped: usize) -> String {
        let shots = self.shots[dropped.min(self.shots.len())..].concat();
        format!("{}{shots}{}", self.heading, question.context)
    }
}
