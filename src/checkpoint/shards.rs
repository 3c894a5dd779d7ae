//! A model directory: its files, or its index with shards.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;

use super::entries::{Entries, MAX_TENSORS};
use super::source::Source;
use super::{Checkpoint, header};
use crate::error::{Error, Result};

/// The weights file of a small model.
const MODEL_FILE: &str = "model.safetensors";
/// The index of a model that is split into several files.
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Number of file names that a message lists before it counts the rest.
const LISTED_NAMES: usize = 12;

#[derive(Deserialize)]
struct Index {
    /// Maps tensor name to file name.
    weight_map: Entries<String>,
}

pub(super) fn open_dir(dir: &Path) -> Result<Checkpoint> {
    let metadata =
        dir.metadata().map_err(|source| Error::Io { action: "open", path: dir.to_owned(), source })?;
    if !metadata.is_dir() {
        return Err(Error::model(
            dir.display().to_string(),
            "is a file: give the directory that holds config.json, tokenizer.json and model.safetensors",
        ));
    }
    // `exists` is false for a dangling link. Opening the link gives a better message than
    // "not found".
    let present = |name| dir.join(name).symlink_metadata().is_ok();
    if present(MODEL_FILE) {
        Checkpoint::open_file(&dir.join(MODEL_FILE))
    } else if present(INDEX_FILE) {
        open_shards(dir)
    } else {
        Err(no_weights(dir)?)
    }
}

/// Opens every shard that the index names, and checks index and shards against each
/// other.
fn open_shards(dir: &Path) -> Result<Checkpoint> {
    let path = dir.join(INDEX_FILE);
    let index_name = path.display().to_string();
    let index = read_index(&path)?;
    let files: BTreeSet<&str> = index.iter().map(|(_, file)| file.as_str()).collect();
    check_shard_files(dir, &index_name, &files)?;

    let mut sources = Vec::with_capacity(files.len());
    let mut tensors = Vec::with_capacity(index.len());
    for file in &files {
        let source = Source::open(&dir.join(file))?;
        tensors.extend(header::read(&source, sources.len())?);
        sources.push(source);
        if tensors.len() > MAX_TENSORS {
            return Err(Error::model(index_name, format!("its shards hold more than {MAX_TENSORS} tensors")));
        }
    }
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let (a, b) = (sources[pair[0].source].name(), sources[pair[1].source].name());
        return Err(Error::model(
            index_name,
            format!("tensor {:?} is in two shards, {a} and {b}; download the model again", pair[0].name),
        ));
    }

    let checkpoint = Checkpoint { sources, tensors };
    let file_names: Vec<&str> = files.into_iter().collect();
    for (name, file) in &index {
        let found = checkpoint.get(name).map(|tensor| file_names[tensor.source]);
        if found != Some(file) {
            let found = found.map_or("no shard contains it".to_owned(), |found| format!("it is in {found}"));
            return Err(Error::model(
                index_name,
                format!(
                    "tensor {name:?} should be in {file}, but {found}; the index and the shards come from \
                     different models or versions; download them together"
                ),
            ));
        }
    }
    Ok(checkpoint)
}

/// Reads the weight map, sorted by tensor name.
fn read_index(path: &Path) -> Result<Vec<(String, String)>> {
    let io_error = |action: &'static str| move |source| Error::Io { action, path: path.to_owned(), source };
    if !path.metadata().map_err(io_error("open"))?.is_file() {
        return Err(Error::model(path.display().to_string(), "expected a file, found a directory or device"));
    }
    let file = File::open(path).map_err(io_error("open"))?;
    let index: Index = serde_json::from_reader(BufReader::new(file)).map_err(|error| {
        if error.is_io() {
            return io_error("read")(error.into());
        }
        Error::model(path.display().to_string(), format!("the index is damaged: {error}; download it again"))
    })?;
    let map = index.weight_map.0;
    if map.is_empty() {
        return Err(Error::model(path.display().to_string(), "its weight_map is empty; download it again"));
    }
    Ok(map)
}

/// Checks that every shard is a plain file name, so that an index cannot reach outside
/// its directory, and that it exists.
fn check_shard_files(dir: &Path, index_name: &str, files: &BTreeSet<&str>) -> Result<()> {
    // ':' starts a drive or a stream on Windows.
    let plain = |file: &str| {
        !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\', ':', '\0'])
    };
    if let Some(file) = files.iter().find(|file| !plain(file)) {
        return Err(Error::model(
            index_name,
            format!("shard {file:?}: expected the name of a file in the index's directory, without a path"),
        ));
    }
    let missing: Vec<String> = files
        .iter()
        .filter(|file| dir.join(file).symlink_metadata().is_err())
        .map(|file| (*file).to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::model(
        index_name,
        format!(
            "{} of {} shards are not in the directory: {}; the download is incomplete; download them too",
            missing.len(),
            files.len(),
            listed(&missing)
        ),
    ))
}

/// Returns the error for a directory without weights: the files that were expected, the
/// files found, and advice.
fn no_weights(dir: &Path) -> Result<Error> {
    let io_error = |source| Error::Io { action: "read", path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error)? {
        names.push(entry.map_err(io_error)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    let holds = if names.is_empty() {
        "the directory is empty".to_owned()
    } else {
        format!("the directory holds {}", listed(&names))
    };
    let advice = advice(&names);
    Ok(Error::model(
        dir.display().to_string(),
        format!("found neither {MODEL_FILE} nor {INDEX_FILE}; {holds}. {advice}"),
    ))
}

fn advice(names: &[String]) -> &'static str {
    let any = |endings: &[&str]| {
        names.iter().any(|name| endings.iter().any(|end| name.to_ascii_lowercase().ends_with(end)))
    };
    if any(&[".safetensors"]) {
        "Rename a single file to model.safetensors; shards need their index; download it too."
    } else if any(&[".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"]) {
        "Only safetensors are read: load the model in Python with transformers' \
         AutoModelForCausalLM.from_pretrained and write it with \
         save_pretrained(directory, safe_serialization=True)."
    } else if any(&[".gguf"]) {
        "GGUF files are not supported: download the model's safetensors files."
    } else {
        "Download the model's safetensors files, or give the directory that holds them."
    }
}

/// Lists the first names and counts the rest.
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED_NAMES)].join(", ");
    match names.len().saturating_sub(LISTED_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
