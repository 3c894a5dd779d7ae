//! Model directories: the golden ones, and modified copies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// Returns the root of the repository: the package of this test program is there, or in
/// `crates`.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|folder| folder.join("Cargo.lock").exists());
    root.expect("a folder with Cargo.lock")
}

/// Returns the path of a file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    root().join(path)
}

/// Returns a golden model's directory.
pub fn golden(name: &str) -> String {
    repository("tests/golden").join(name).into_os_string().into_string().unwrap()
}

/// Returns an i64 tensor of `golden.safetensors`.
pub fn golden_ids(model: &str, tensor: &str) -> Vec<u64> {
    let words = |b: &[u8]| b.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
    golden_tensor(model, tensor, words)
}

/// Returns an f64 tensor of `golden.safetensors`.
pub fn golden_f64(model: &str, tensor: &str) -> Vec<f64> {
    let values = |b: &[u8]| b.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    golden_tensor(model, tensor, values)
}

fn golden_tensor<T>(model: &str, tensor: &str, convert: impl Fn(&[u8]) -> Vec<T>) -> Vec<T> {
    let bytes = fs::read(repository("tests/golden").join(model).join("golden.safetensors")).unwrap();
    convert(SafeTensors::deserialize(&bytes).unwrap().tensor(tensor).unwrap().data())
}

/// A temporary model directory, removed when dropped.
pub struct Model(TempDir);

/// Maps a name to element type, shape and bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

impl Model {
    /// Copies `tests/golden/gpt2-tiny`: 1000 tokens, 128 positions, 2 layers of width 64,
    /// no tokenizer.
    pub fn tiny() -> Self {
        let model = Model(tempfile::tempdir().unwrap());
        for file in ["config.json", "model.safetensors"] {
            model.copy(&repository("tests/golden/gpt2-tiny").join(file));
        }
        model
    }

    /// Copies the demo model: 2048 tokens, 512 positions, a tokenizer.
    pub fn demo() -> Self {
        let model = Model(tempfile::tempdir().unwrap());
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            model.copy(&repository("weights").join(file));
        }
        model
    }

    pub fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn copy(&self, file: &Path) {
        self.write(file.file_name().unwrap().to_str().unwrap(), &fs::read(file).unwrap());
    }

    pub fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(file), bytes).unwrap();
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.0.path().join(file)).unwrap()
    }

    /// Sets a field of config.json.
    pub fn with_config(self, field: &str, value: impl Into<Value>) -> Self {
        let mut config: Value = serde_json::from_slice(&self.read("config.json")).unwrap();
        config[field] = value.into();
        self.write("config.json", config.to_string().as_bytes());
        self
    }

    /// Replaces the bytes of a file.
    pub fn with_file(self, file: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        let bytes = fs::read(self.0.path().join(file)).unwrap_or_default();
        self.write(file, &edit(bytes));
        self
    }

    /// Changes the tensors of model.safetensors.
    pub fn with_tensors(self, edit: impl FnOnce(&mut Tensors)) -> Self {
        self.with_file("model.safetensors", |bytes| {
            let mut tensors: Tensors = SafeTensors::deserialize(&bytes)
                .unwrap()
                .tensors()
                .into_iter()
                .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
                .collect();
            edit(&mut tensors);
            let views = tensors.iter().map(|(name, (dtype, shape, data))| {
                (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
            });
            safetensors::serialize(views, None).unwrap()
        })
    }

    /// Sets one f32 element of a tensor.
    pub fn with_value(self, tensor: &str, index: usize, value: f32) -> Self {
        self.with_tensors(|tensors| {
            let (dtype, _, data) = tensors.get_mut(tensor).unwrap();
            assert_eq!(*dtype, Dtype::F32);
            data[index * 4..][..4].copy_from_slice(&value.to_le_bytes());
        })
    }
}
