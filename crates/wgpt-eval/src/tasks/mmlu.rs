//! MMLU (Hendrycks et al. 2021): questions in 57 subjects, one csv file per subject and
//! split.

use std::path::{Path, PathBuf};

use csv::StringRecord;

use super::choices::letter;
use super::file::{TextFile, fault};
use super::python::strip;
use super::question::{Convention, Question};
use wgpt::{Error, Result};

/// Columns: question, four choices, answer.
const COLUMNS: usize = 6;
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Questions of one subject and split.
pub(super) struct SubjectFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) questions: Vec<Question>,
    pub(super) sha256: String,
}

/// Returns the text that begins each prompt of a subject.
pub(super) fn heading(subject: &str, convention: Convention) -> String {
    match convention {
        Convention::LmEval => format!(
            "The following are multiple choice questions (with answers) about {}.\n\n",
            subject.replace('_', " ")
        ),
        Convention::Llmc => String::new(),
    }
}

/// Reads the files `folder/test/SUBJECT_test.csv` in the order of their names.
///
/// # Errors
/// [`Error::Io`]; [`Error::Input`] if the folder does not exist or has no such file; the
/// errors of [`read_file`].
pub(super) fn read_test(folder: &Path, convention: Convention) -> Result<Vec<SubjectFile>> {
    let dir = folder.join("test");
    let names = std::fs::read_dir(&dir).map_err(|source| {
        let why = if folder.is_dir() { "has no folder test/" } else { "is not a folder" };
        Error::input(format!(
            "{} {why}: expected MMLU's csv files as test/SUBJECT_test.csv and dev/SUBJECT_dev.csv ({source})",
            folder.display()
        ))
    })?;
    let mut subjects = Vec::new();
    for entry in names {
        let path = entry.map_err(|source| Error::Io { action: "read", path: dir.clone(), source })?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(subject) = name.strip_suffix("_test.csv") {
            subjects.push((subject.to_owned(), path.clone()));
        }
    }
    if subjects.is_empty() {
        return Err(Error::input(format!(
            "{} has no SUBJECT_test.csv: expected MMLU's csv files",
            dir.display()
        )));
    }
    subjects.sort();
    subjects.into_iter().map(|(name, path)| read_file(name, path, convention)).collect()
}

/// Reads the file `folder/dev/SUBJECT_dev.csv`.
///
/// # Errors
/// The errors of [`read_file`], and [`Error::Input`] if the file does not exist.
pub(super) fn read_dev(folder: &Path, subject: &str, convention: Convention) -> Result<SubjectFile> {
    let path = folder.join("dev").join(format!("{subject}_dev.csv"));
    if !path.exists() {
        return Err(Error::input(format!(
            "{}: this file with the shots does not exist: get MMLU's dev/ folder, or use DataOptions::shots \
             = 0",
            path.display()
        )));
    }
    read_file(subject.to_owned(), path, convention)
}

/// Reads a file of questions, with or without a header.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Input`] with file and line for
/// invalid csv, a wrong number of columns, an empty cell or an invalid answer.
fn read_file(name: String, path: PathBuf, convention: Convention) -> Result<SubjectFile> {
    let file = TextFile::read(&path)?;
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file.text.as_bytes());
    let mut questions = Vec::new();
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            fault(&path, line as usize, format!("invalid csv: {error}"))
        })?;
        let line = record.position().map_or(1, csv::Position::line) as usize;
        // An unclosed quote swallows the rest of the file; the column count then reveals
        // it.
        if record.len() != COLUMNS {
            return Err(fault(
                &path,
                line,
                format!(
                    "{} columns: expected {COLUMNS} (question, four choices, answer); look for an unclosed \
                     quote",
                    record.len()
                ),
            ));
        }
        if let Some(empty) = record.iter().position(|cell| cell.trim().is_empty()) {
            return Err(fault(&path, line, format!("column {} is empty: every cell needs text", empty + 1)));
        }
        match answer(&record[COLUMNS - 1]) {
            Some(gold) => questions.push(question(line, &record, gold, convention).checked(&path)?),
            None if i == 0 && record[COLUMNS - 1].trim().eq_ignore_ascii_case("answer") => {}
            None => {
                let message = format!("answer {:?}: expected 0 to 3 or A to D", &record[COLUMNS - 1]);
                return Err(fault(&path, line, message));
            }
        }
    }
    if questions.is_empty() {
        return Err(fault(&path, 1, "the file has only a header: expected questions after it"));
    }
    Ok(SubjectFile { name, sha256: file.sha256.clone(), path, questions })
}

fn answer(cell: &str) -> Option<usize> {
    let cell = cell.trim();
    letter(cell).or_else(|| cell.parse().ok()).filter(|&answer| answer < LETTERS.len())
}

fn question(line: usize, record: &StringRecord, gold: usize, convention: Convention) -> Question {
    let choices = record.iter().skip(1).take(LETTERS.len());
    match convention {
        Convention::LmEval => {
            let mut context = strip(&record[0]).to_owned();
            for (letter, choice) in LETTERS.iter().zip(choices) {
                context += &format!("\n{letter}. {choice}");
            }
            context += "\nAnswer:";
            Question::new(line, context, &LETTERS.map(String::from), gold)
        }
        Convention::Llmc => {
            let endings: Vec<String> = choices.map(String::from).collect();
            Question::new(line, format!("Question: {}\n\nAnswer:", &record[0]), &endings, gold)
        }
    }
}
