//! Model directories that the tests load, and ways to change their files.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use tempfile::TempDir;
use wgpt::{Engine, EngineBuilder, GpuOptions};

use super::models::repository;
use super::on_device;
use super::random_gpt2::RandomGpt2;

/// Returns options for the adapter that `WGPT_DEVICE` names, or for the best one.
pub fn gpu() -> GpuOptions {
    on_device(GpuOptions::default())
}

/// Returns a builder for the model in `dir`.
pub fn engine(dir: &Path) -> EngineBuilder {
    Engine::builder().gpu(gpu()).model(dir)
}

/// Returns the path of a model of `tests/golden`.
pub fn golden(name: &str) -> PathBuf {
    repository("tests/golden").join(name)
}

/// Returns a model of 12.6 million parameters, f32, 50 MB. Its Conv1D matrices and its
/// embedding exceed the loader's block of 2^20 elements, and no dimension divides that
/// block.
pub fn long_matrices() -> RandomGpt2 {
    RandomGpt2 {
        n_layer: 1,
        n_embd: 640,
        n_head: 10,
        vocab_size: 12_007,
        n_positions: 64,
        dtype: Dtype::F32,
        seed: 1,
    }
}

/// Returns the directory of [`long_matrices`], which is written once.
pub fn long_matrices_dir() -> &'static Path {
    static DIR: LazyLock<TempDir> = LazyLock::new(|| write(&long_matrices()));
    DIR.path()
}

/// Writes a model into a new temporary directory.
pub fn write(model: &RandomGpt2) -> TempDir {
    let dir = TempDir::new().unwrap();
    model.write(dir.path()).unwrap();
    dir
}

/// A tensor of a file: name, shape, bytes of its f32 elements.
pub type Tensor = (String, Vec<usize>, Vec<u8>);

/// Returns a copy of gpt2-tiny whose tensors `change` has altered.
pub fn altered_tiny(change: impl FnOnce(&mut Vec<Tensor>)) -> TempDir {
    let bytes = fs::read(golden("gpt2-tiny/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<Tensor> =
        file.tensors().into_iter().map(|(name, t)| (name, t.shape().to_vec(), t.data().to_vec())).collect();
    change(&mut tensors);
    let dir = TempDir::new().unwrap();
    fs::copy(golden("gpt2-tiny/config.json"), dir.path().join("config.json")).unwrap();
    let views = tensors
        .iter()
        .map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &dir.path().join("model.safetensors")).unwrap();
    dir
}

/// Overwrites element `index` of an f32 tensor in a model's file.
pub fn patch(dir: &Path, tensor: &str, index: usize, value: f32) {
    let path = dir.join("model.safetensors");
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut length = [0; 8];
    file.read_exact(&mut length).unwrap();
    let mut header = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact(&mut header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap();
    let offset = 8 + u64::from_le_bytes(length) + start + 4 * index as u64;
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&value.to_le_bytes()).unwrap();
}
