//! The questions of a task, read and formatted as prompts.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{TextFile, hex_sha256};
use super::question::{Convention, Question, Subject};
use super::{choices, hellaswag, lambada, mmlu};
use crate::plural;
use wgpt::{Error, Result};

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Choice of the right one of four endings (Zellers et al. 2019).
    Hellaswag,
    /// Questions from 57 subjects with four answers each (Hendrycks et al. 2021).
    Mmlu,
    /// The last word of a passage (Paperno et al. 2016, in OpenAI's form).
    Lambada,
    /// Arbitrary multiple-choice questions.
    Choices,
}

impl Task {
    /// Returns the name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Task::Hellaswag => "hellaswag",
            Task::Mmlu => "mmlu",
            Task::Lambada => "lambada",
            Task::Choices => "choices",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Options for reading a task's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataOptions {
    /// Convention for prompts and figures.
    pub convention: Convention,
    /// Number of answered questions before each question. They are the first ones of MMLU's
    /// `dev` split or of `shots_file`. Convention llmc has none.
    pub shots: usize,
    /// File with the shots of HellaSwag or of choices, in the task's format.
    pub shots_file: Option<PathBuf>,
}

/// The questions of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The task.
    pub task: Task,
    /// Convention for prompts and figures.
    pub convention: Convention,
    /// Number of shots in each prompt, before any are dropped.
    pub shots: usize,
    /// A single subject, or MMLU's subjects sorted by name.
    pub subjects: Vec<Subject>,
    /// Questions in file order; those of the same subject are adjacent.
    pub questions: Vec<Question>,
    /// SHA-256 in hexadecimal. For a single file it is the file's hash. For several files
    /// it is the hash of the lines that `sha256sum` prints for them, with the names
    /// `test/SUBJECT_test.csv` and `dev/SUBJECT_dev.csv`, or the task's name and `shots`.
    pub sha256: String,
}

impl Dataset {
    /// Reads the questions of `task` from `path`: a jsonl or six-line file of HellaSwag,
    /// a folder of MMLU's csv files, or a jsonl file of LAMBADA or of choices.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read; [`Error::Input`] with file and line for an
    /// invalid datum, and for shots that are not available.
    pub fn read(task: Task, path: &Path, options: &DataOptions) -> Result<Self> {
        check(task, options)?;
        let DataOptions { convention, shots, .. } = *options;
        if task == Task::Mmlu {
            return read_mmlu(path, convention, shots);
        }
        let file = TextFile::read(path)?;
        let mut sha256 = file.sha256.clone();
        let mut subject = Subject {
            name: task.name().to_owned(),
            path: path.to_owned(),
            heading: String::new(),
            shots: Vec::new(),
        };
        if let Some(source) = &options.shots_file {
            let source = TextFile::read(source)?;
            subject.shots = take_shots(&read_questions(task, &source, convention)?, shots, &source.path)?;
            sha256 = hex_sha256(format!("{sha256}  {task}\n{}  shots\n", source.sha256).as_bytes());
        }
        let questions = read_questions(task, &file, convention)?;
        Ok(Dataset { task, convention, shots, subjects: vec![subject], questions, sha256 })
    }

    /// Returns the context of a question, preceded by all its shots except the first
    /// `dropped`.
    #[must_use]
    pub fn prompt(&self, question: &Question, dropped: usize) -> String {
        self.subjects[question.subject].prompt(question, dropped)
    }
}

/// Returns an error for a combination of convention, task and shots that does not exist.
fn check(task: Task, options: &DataOptions) -> Result<()> {
    let DataOptions { convention, shots, ref shots_file } = *options;
    let llmc = convention == Convention::Llmc;
    if llmc && task == Task::Lambada {
        return Err(Error::input("llm.c has no lambada task: use the convention lm-eval"));
    }
    if llmc && shots > 0 {
        return Err(Error::input(
            "llm.c uses no shots: use DataOptions::shots = 0 or the convention lm-eval",
        ));
    }
    match (task, shots_file) {
        (Task::Mmlu, Some(_)) => {
            Err(Error::input("mmlu takes its shots from dev/: leave out DataOptions::shots_file"))
        }
        (Task::Lambada, Some(_)) => Err(Error::input(
            "lambada uses no shots: leave out DataOptions::shots and DataOptions::shots_file",
        )),
        (Task::Lambada, None) if shots > 0 => Err(Error::input(
            "lambada uses no shots: leave out DataOptions::shots and DataOptions::shots_file",
        )),
        (Task::Hellaswag | Task::Choices, None) if shots > 0 => Err(Error::input(format!(
            "{shots} shots: the data of {task} has no split for them: give a file of answered questions in \
             the same format (DataOptions::shots_file)"
        ))),
        (_, Some(_)) if shots == 0 => {
            Err(Error::input("a shots file needs a number of shots: give DataOptions::shots"))
        }
        _ => Ok(()),
    }
}

fn read_questions(task: Task, file: &TextFile, convention: Convention) -> Result<Vec<Question>> {
    match task {
        Task::Hellaswag => hellaswag::read(file, convention),
        Task::Lambada => lambada::read(file),
        Task::Choices | Task::Mmlu => choices::read(file),
    }
}

/// Returns the first `n` questions with their answers.
fn take_shots(questions: &[Question], n: usize, path: &Path) -> Result<Vec<String>> {
    match questions.get(..n) {
        Some(some) => Ok(some.iter().map(Question::as_shot).collect()),
        None => Err(Error::input(format!(
            "{} has {}, too few for {}",
            path.display(),
            plural(questions.len(), "question"),
            plural(n, "shot")
        ))),
    }
}

fn read_mmlu(folder: &Path, convention: Convention, shots: usize) -> Result<Dataset> {
    let (mut subjects, mut questions, mut digests) = (Vec::new(), Vec::new(), String::new());
    for (i, file) in mmlu::read_test(folder, convention)?.into_iter().enumerate() {
        let mut subject = Subject {
            heading: mmlu::heading(&file.name, convention),
            shots: Vec::new(),
            name: file.name,
            path: file.path,
        };
        digests += &format!("{}  test/{}_test.csv\n", file.sha256, subject.name);
        if shots > 0 {
            let dev = mmlu::read_dev(folder, &subject.name, convention)?;
            subject.shots = take_shots(&dev.questions, shots, &dev.path)?;
            digests += &format!("{}  dev/{}_dev.csv\n", dev.sha256, subject.name);
        }
        questions.extend(file.questions.into_iter().map(|question| Question { subject: i, ..question }));
        subjects.push(subject);
    }
    let sha256 = hex_sha256(digests.as_bytes());
    Ok(Dataset { task: Task::Mmlu, convention, shots, subjects, questions, sha256 })
}
