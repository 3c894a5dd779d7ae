//! The checkpoints of a training run: their files and steps.

use std::path::{Path, PathBuf};

use wgpt::{Error, ModelFiles, Result};

/// A checkpoint of a training run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointPath {
    /// Number of optimizer steps so far.
    pub step: u64,
    /// A model's directory, or a safetensors file next to config.json and tokenizer.json.
    pub path: PathBuf,
}

impl CheckpointPath {
    /// Opens and checks the model's files.
    ///
    /// # Errors
    /// The errors of [`ModelFiles::open`] and [`ModelFiles::open_weights`].
    pub fn open(&self) -> Result<ModelFiles> {
        if self.path.is_dir() { ModelFiles::open(&self.path) } else { ModelFiles::open_weights(&self.path) }
    }
}

/// Checkpoints that [`find_checkpoints`] found under one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundCheckpoints {
    /// The checkpoints in ascending order of their steps.
    pub checkpoints: Vec<CheckpointPath>,
    /// A `model.safetensors` next to them. Its name has no step: it may be the end of the
    /// run or a copy of a checkpoint.
    pub left_out: Option<PathBuf>,
}

const MODEL_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
const CONFIG_FILE: &str = "config.json";

/// Finds the checkpoints under `path`: a safetensors file, a model's directory, or a
/// directory of checkpoints. The latter contains model directories such as
/// `checkpoint-500`, or files such as `checkpoint-500.safetensors` next to one
/// config.json. The step is the number at the end of the name. If `step` is given, it is
/// the step, and `path` is a single checkpoint.
///
/// # Errors
/// [`Error::Io`] if the directory cannot be read; [`Error::Input`] if there is no
/// checkpoint, or if a name has no step.
pub fn find_checkpoints(path: &Path, step: Option<u64>) -> Result<FoundCheckpoints> {
    let shown = path.display();
    let metadata =
        path.metadata().map_err(|source| Error::Io { action: "open", path: path.to_owned(), source })?;
    if metadata.is_dir() && step.is_none() {
        let found = within(path)?;
        if !found.checkpoints.is_empty() {
            return Ok(found);
        }
        if !is_model(path) {
            return Err(Error::input(format!(
                "{shown}: the directory contains no checkpoint: expected a model's files, or directories or \
                 safetensors files whose names end in their step, such as checkpoint-500"
            )));
        }
    }
    let step = step.or_else(|| step_of(path)).ok_or_else(|| {
        Error::input(format!(
            "{shown}: the name does not end in a step, as checkpoint-500 does: give the step as STEP={shown}"
        ))
    })?;
    Ok(FoundCheckpoints { checkpoints: vec![CheckpointPath { step, path: path.to_owned() }], left_out: None })
}

/// Sorts the checkpoints of a run by step.
///
/// # Errors
/// [`Error::Input`] for two checkpoints of the same step.
pub fn sort_checkpoints(mut checkpoints: Vec<CheckpointPath>) -> Result<Vec<CheckpointPath>> {
    checkpoints.sort();
    if let Some(pair) = checkpoints.windows(2).find(|pair| pair[0].step == pair[1].step) {
        return Err(Error::input(format!(
            "two checkpoints have step {}, {} and {}: leave one of them out",
            pair[0].step,
            pair[0].path.display(),
            pair[1].path.display()
        )));
    }
    Ok(checkpoints)
}

/// Returns the checkpoints in a directory.
fn within(dir: &Path) -> Result<FoundCheckpoints> {
    let io_error = |source| Error::Io { action: "read", path: dir.to_owned(), source };
    let mut found = FoundCheckpoints::default();
    for entry in dir.read_dir().map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        let is_checkpoint = if path.is_dir() { is_model(&path) } else { is_weights(&path) };
        match step_of(&path) {
            Some(step) if is_checkpoint => found.checkpoints.push(CheckpointPath { step, path }),
            None if path.file_name().is_some_and(|name| name == MODEL_FILE) => found.left_out = Some(path),
            _ => {}
        }
    }
    found.checkpoints.sort();
    Ok(found)
}

fn is_model(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).is_file();
    has(CONFIG_FILE) && (has(MODEL_FILE) || has(INDEX_FILE))
}

fn is_weights(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

/// Returns the number at the end of a path's name without its extension. The number must
/// be the whole name or follow a separator or a word for steps. Returns `None` for a
/// model's own name, such as gpt2, and for a shard, such as model-00001-of-00002.
fn step_of(path: &Path) -> Option<u64> {
    let name = if is_weights(path) { path.file_stem() } else { path.file_name() };
    let name = name?.to_str()?.to_ascii_lowercase();
    let (before, digits) = name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    let marked = before.is_empty()
        || before.ends_with(['-', '_', '.', '='])
        || ["step", "iter", "checkpoint", "ckpt"].iter().any(|word| before.ends_with(word));
    if before.ends_with("-of-") || !marked { None } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_number_at_the_end_of_the_name() {
        for (name, step) in [
            ("run/checkpoint-1500", Some(1500)),
            ("checkpoint-250.safetensors", Some(250)),
            ("step143000", Some(143_000)),
            ("ckpt_0010.safetensors", Some(10)),
            ("v1.5", Some(5)),
            ("77", Some(77)),
            ("gpt2", None),
            ("model.safetensors", None),
            ("model-00001-of-00002.safetensors", None),
            ("checkpoint-99999999999999999999", None),
            ("checkpoint-", None),
        ] {
            assert_eq!(step_of(Path::new(name)), step, "{name}");
        }
    }

    fn write(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }

    fn steps(found: &FoundCheckpoints) -> Vec<u64> {
        found.checkpoints.iter().map(|checkpoint| checkpoint.step).collect()
    }

    #[test]
    fn files_next_to_one_config_are_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        let weights = ["checkpoint-1000.safetensors", "checkpoint-250.safetensors", "model.safetensors"];
        write(root.path(), &weights);
        write(root.path(), &["config.json", "log.json", "notes-7.txt", "model-00001-of-00002.safetensors"]);
        let found = find_checkpoints(root.path(), None).unwrap();
        assert_eq!(steps(&found), [250, 1000]);
        assert_eq!(found.left_out, Some(root.path().join("model.safetensors")));
        // With an explicit step, the directory is one checkpoint.
        let whole = find_checkpoints(root.path(), Some(9)).unwrap();
        assert_eq!((steps(&whole), &whole.checkpoints[0].path), (vec![9], &root.path().to_owned()));
    }

    #[test]
    fn directories_with_a_model_are_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["checkpoint-20/config.json", "checkpoint-20/model.safetensors"]);
        write(root.path(), &["checkpoint-3/config.json", "checkpoint-3/model.safetensors.index.json"]);
        write(root.path(), &["checkpoint-4/optimizer.pt", "runs/x", "trainer_state.json"]);
        assert_eq!(steps(&find_checkpoints(root.path(), None).unwrap()), [3, 20]);
        assert_eq!(steps(&find_checkpoints(&root.path().join("checkpoint-20"), None).unwrap()), [20]);
    }

    #[test]
    fn paths_without_a_step_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let error = |path: &Path| find_checkpoints(path, None).unwrap_err().to_string();
        assert!(error(root.path()).contains("the directory contains no checkpoint"));
        write(root.path(), &["gpt/config.json", "gpt/model.safetensors"]);
        let found = error(&root.path().join("gpt"));
        assert!(found.contains("does not end in a step") && found.contains("STEP="), "{found}");
        assert!(error(&root.path().join("gpt/model.safetensors")).contains("does not end in a step"));
        assert!(error(&root.path().join("none")).contains("cannot open"));
    }

    #[test]
    fn two_checkpoints_of_one_step_are_refused() {
        let at = |step, path: &str| CheckpointPath { step, path: path.into() };
        let sorted = sort_checkpoints(vec![at(20, "b"), at(3, "c")]).unwrap();
        assert_eq!(sorted, [at(3, "c"), at(20, "b")]);
        let error = sort_checkpoints(vec![at(3, "b"), at(4, "x"), at(3, "a")]).unwrap_err().to_string();
        assert_eq!(error, "two checkpoints have step 3, a and b: leave one of them out");
    }
}
