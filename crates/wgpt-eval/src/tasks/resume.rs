//! The file from which an interrupted evaluation resumes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Task};
use super::question::Convention;
use super::results::Answer;
use wgpt::{DType, Engine, Error, Result, files};

/// Version of the file format.
const FORMAT: u32 = 1;
/// Maximum file size in bytes. An answer takes about 200 bytes, and every task has far
/// fewer than a million answers.
const BYTES_MAX: u64 = 1 << 30;

/// Settings on which the answers of a run depend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    task: Task,
    convention: Convention,
    shots: usize,
    seed: u64,
    data_sha256: String,
    model_sha256: String,
    dtype: DType,
    kv_dtype: DType,
    deterministic: bool,
    features_floor: bool,
    context: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'a> {
    format: u32,
    run: Identity,
    answers: std::borrow::Cow<'a, [Answer]>,
}

/// File that stores the answers of a run.
pub(super) struct ResumeFile {
    path: PathBuf,
    run: Identity,
}

impl ResumeFile {
    /// Opens the file at `path`, or creates it if it does not exist, and returns the
    /// answers in it.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or written; [`Error::Input`] for a
    /// damaged file, and for a file of another run, with the first difference.
    pub(super) fn open(
        path: &Path,
        engine: &Engine,
        dataset: &Dataset,
        seed: u64,
        model_sha256: &str,
    ) -> Result<(Self, Vec<Answer>)> {
        let options = engine.options();
        let run = Identity {
            task: dataset.task,
            convention: dataset.convention,
            shots: dataset.shots,
            seed,
            data_sha256: dataset.sha256.clone(),
            model_sha256: model_sha256.to_owned(),
            dtype: options.dtype,
            kv_dtype: options.kv_dtype,
            deterministic: options.deterministic,
            features_floor: engine.gpu().options().features_floor,
            context: engine.n_ctx(),
        };
        // Keep a symbolic link and replace its target.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = ResumeFile { path, run };
        let read = files::read_if_present(&file.path, BYTES_MAX);
        let bytes = read.map_err(|source| Error::Io { action: "read", path: file.path.clone(), source })?;
        let answers = match bytes {
            Some(bytes) => file.parse(&bytes, dataset)?,
            None => Vec::new(),
        };
        // Find out now, not after an hour, whether the file can be written. Do not create
        // its folder, because a mistyped path would then create a wrong one.
        if !file.dir().is_dir() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(Error::Io { action: "write", path: file.path, source });
        }
        file.save(&answers)?;
        Ok((file, answers))
    }

    fn parse(&self, bytes: &[u8], dataset: &Dataset) -> Result<Vec<Answer>> {
        let damaged = |what: String| {
            Error::input(format!(
                "{}: {what}: remove the file to start again, or name another file",
                self.path.display()
            ))
        };
        let content: Content<'_> = serde_json::from_slice(bytes).map_err(|error| {
            damaged(format!("this is not a complete file of answers (TaskOptions::resume): {error}"))
        })?;
        if content.format != FORMAT {
            return Err(damaged(format!(
                "the file has format {}, but this version reads {FORMAT}",
                content.format
            )));
        }
        if let Some(difference) = difference(&content.run, &self.run) {
            return Err(damaged(format!("the file belongs to another run: {difference}")));
        }
        let mut answers = content.answers.into_owned();
        answers.sort_by_key(|answer| answer.index);
        let twice = answers.windows(2).find(|pair| pair[0].index == pair[1].index).map(|pair| &pair[0]);
        let odd = answers.iter().find(|answer| {
            let endings = dataset.questions.get(answer.index).map(|question| question.continuations.len());
            let lens = [answer.logprobs.len(), answer.n_tokens.len()].map(Some);
            lens != [endings; 2] || answer.greedy.is_some() != (dataset.task == Task::Lambada)
        });
        match twice.or(odd) {
            Some(answer) => {
                Err(damaged(format!("the answer to question {} does not fit the data", answer.index)))
            }
            None => Ok(answers),
        }
    }

    fn dir(&self) -> &Path {
        self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Replaces the file atomically with one that contains `answers`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub(super) fn save(&self, answers: &[Answer]) -> Result<()> {
        let content = Content { format: FORMAT, run: self.run.clone(), answers: answers.into() };
        let bytes = serde_json::to_vec(&content)
            .map_err(|error| Error::input(format!("{}: {error}", self.path.display())))?;
        let dir = self.dir();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        files::write(dir, &name, &bytes)
    }
}

/// Returns the first field in which the file differs from this run.
fn difference(file: &Identity, here: &Identity) -> Option<String> {
    let fields = |run: &Identity| {
        [
            ("task", run.task.to_string()),
            ("convention", run.convention.name().to_owned()),
            ("shots", run.shots.to_string()),
            ("seed", run.seed.to_string()),
            ("data_sha256", run.data_sha256.clone()),
            ("model_sha256", run.model_sha256.clone()),
            ("dtype", run.dtype.to_string()),
            ("kv_dtype", run.kv_dtype.to_string()),
            ("deterministic", run.deterministic.to_string()),
            ("features_floor", run.features_floor.to_string()),
            ("context", run.context.to_string()),
        ]
    };
    let mut pairs = fields(file).into_iter().zip(fields(here));
    pairs
        .find(|(there, here)| there.1 != here.1)
        .map(|((name, there), (_, here))| format!("{name} is {there} in the file and {here} in this run"))
}
