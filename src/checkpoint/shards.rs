//! A model directory: its files, or its index with shards.

use std::collections::BTreeSet;
use std::io::BufReader;

use serde::Deserialize;

use super::entries::{Entries, MAX_TENSORS};
use super::source::{Source, Stretch};
use super::{Checkpoint, Folder, header};
use crate::error::{Error, Result};

/// The weights file of a small model.
const MODEL_FILE: &str = "model.safetensors";
/// The index of a model that is split into several files.
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Number of file names that a message lists. It only counts the remaining names.
const LISTED_NAMES: usize = 12;

#[derive(Deserialize)]
struct Index {
    /// Maps tensor name to file name.
    weight_map: Entries<String>,
}

pub(super) fn open(folder: &Folder) -> Result<Checkpoint> {
    if let Folder::Dir(dir) = folder {
        let metadata =
            dir.metadata().map_err(|source| Error::Io { action: "open", path: dir.clone(), source })?;
        if !metadata.is_dir() {
            return Err(Error::model(
                dir.display().to_string(),
                "is a file: give the directory that holds config.json, tokenizer.json and model.safetensors",
            ));
        }
    }
    if folder.has(MODEL_FILE) {
        Checkpoint::from_source(folder.open(MODEL_FILE)?)
    } else if folder.has(INDEX_FILE) {
        open_shards(folder)
    } else {
        Err(no_weights(folder)?)
    }
}

/// Opens every shard that the index names, and checks that index and shards agree.
fn open_shards(folder: &Folder) -> Result<Checkpoint> {
    let index_name = folder.display(INDEX_FILE);
    let index = read_index(folder.open(INDEX_FILE)?)?;
    let files: BTreeSet<&str> = index.iter().map(|(_, file)| file.as_str()).collect();
    check_shard_files(folder, &index_name, &files)?;

    let mut sources = Vec::with_capacity(files.len());
    let mut tensors = Vec::with_capacity(index.len());
    for file in &files {
        let source = folder.open(file)?;
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
fn read_index(source: Source) -> Result<Vec<(String, String)>> {
    let (name, end) = (source.name(), source.len_bytes());
    let reader = BufReader::new(Stretch { source: &source, offset: 0, end });
    let index: Index = serde_json::from_reader(reader).map_err(|error| {
        if error.is_io() {
            return source.read_error(error.into());
        }
        Error::model(&name, format!("the index is damaged: {error}; download it again"))
    })?;
    let map = index.weight_map.0;
    if map.is_empty() {
        return Err(Error::model(name, "its weight_map is empty; download it again"));
    }
    Ok(map)
}

/// Checks that every shard exists and has a plain file name, so an index cannot reach
/// outside its directory.
fn check_shard_files(folder: &Folder, index_name: &str, files: &BTreeSet<&str>) -> Result<()> {
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
    let missing: Vec<String> =
        files.iter().filter(|file| !folder.has(file)).map(|file| (*file).to_owned()).collect();
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

/// Returns the error for a directory without weights. It lists the files that were
/// expected and the files found, and gives advice.
fn no_weights(folder: &Folder) -> Result<Error> {
    let names = folder.names()?;
    let holds = if names.is_empty() {
        "the directory is empty".to_owned()
    } else {
        format!("the directory holds {}", listed(&names))
    };
    let advice = advice(&names);
    Ok(Error::model(
        folder.to_string(),
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
