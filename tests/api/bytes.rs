//! Models and sessions that are not files: bytes in memory, an application's own storage.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wgpt::{ByteSource, Engine, Error, Gpu, ModelFiles, ModelOptions, Session};

use crate::support::open_gpu;

const SHARDED: &str = "tests/golden/gpt2-variants/gelu_pytorch_tanh-sharded";

/// Returns the files of a directory with their bytes.
fn in_memory(dir: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.map(|path| (name(&path), std::fs::read(path).unwrap())).collect()
}

fn load(gpu: &Arc<Gpu>, files: ModelFiles) -> wgpt::Result<Engine> {
    Engine::builder().files(files).gpu(Arc::clone(gpu)).build()
}

fn logits(engine: &Engine) -> Vec<u32> {
    let mut session = engine.session();
    session.advance(&[1, 2, 3]).unwrap().iter().map(|logit| logit.to_bits()).collect()
}

/// Bytes that count how often they are read, and fail from some read on.
struct Storage {
    bytes: Vec<u8>,
    reads: Arc<AtomicU64>,
    fails_after: u64,
}

impl ByteSource for Storage {
    fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.reads.fetch_add(1, Ordering::Relaxed) >= self.fails_after {
            return Err(io::Error::other("the archive is gone"));
        }
        self.bytes.read_exact_at(offset, out)
    }
}

#[test]
fn a_model_in_memory_equals_the_one_in_a_directory() {
    let gpu = Arc::new(open_gpu(Default::default()));
    let directory = ModelFiles::open(Path::new(SHARDED)).unwrap();
    let memory = ModelFiles::from_sources("mine", in_memory(SHARDED)).unwrap();
    assert_eq!(memory.name(), "mine");
    assert_eq!(memory.sha256().unwrap(), directory.sha256().unwrap());
    assert_eq!(memory.describe(), directory.describe());
    assert_eq!(logits(&load(&gpu, memory).unwrap()), logits(&load(&gpu, directory).unwrap()));
}

#[test]
fn a_missing_file_is_named() {
    let without = |missing: &str| {
        let files = in_memory(SHARDED).into_iter().filter(|(name, _)| name != missing);
        ModelFiles::from_sources("mine", files).unwrap_err().to_string()
    };
    let error = without("config.json");
    assert!(error.starts_with("mine: ") && error.contains("no config.json"), "{error}");
    let error = without("model.safetensors.index.json");
    assert!(error.contains("found neither model.safetensors nor model.safetensors.index.json"), "{error}");
    let error = without("model-00002-of-00002.safetensors");
    assert!(error.contains("1 of 2 shards") && error.contains("model-00002-of-00002"), "{error}");
    let short = in_memory("tests/golden/gpt2-tiny").into_iter().map(|(name, mut bytes)| {
        if name == "model.safetensors" {
            bytes.truncate(bytes.len() - 1);
        }
        (name, bytes)
    });
    let error = ModelFiles::from_sources("mine", short).unwrap_err().to_string();
    assert!(error.starts_with("mine/model.safetensors: "), "{error}");
}

#[test]
fn custom_storage_is_read_by_position_and_reports_its_errors() {
    let gpu = Arc::new(open_gpu(Default::default()));
    let reads = Arc::new(AtomicU64::new(0));
    let files = |fails_after| {
        let reads = Arc::clone(&reads);
        in_memory(SHARDED)
            .into_iter()
            .map(move |(name, bytes)| (name, Storage { bytes, reads: Arc::clone(&reads), fails_after }))
    };
    let opened = ModelFiles::from_sources("mine", files(u64::MAX)).unwrap();
    let n_opened = reads.load(Ordering::Relaxed);
    load(&gpu, opened).unwrap();
    assert!(reads.swap(0, Ordering::Relaxed) > n_opened);
    let opened = ModelFiles::from_sources("mine", files(n_opened + 2)).unwrap();
    let error = load(&gpu, opened).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Io { action: "read", .. }), "{error}");
    assert!(error.to_string().contains("the archive is gone"), "{error}");
}

#[test]
fn a_session_in_bytes_equals_the_one_in_a_file() {
    let gpu = Arc::new(open_gpu(Default::default()));
    let options = ModelOptions { deterministic: true, ..ModelOptions::default() };
    let builder = Engine::builder().gpu(gpu).options(options);
    let engine = builder.model("tests/golden/gpt2-tiny").build().unwrap();
    let mut session = engine.session();
    session.advance(&[5, 6, 7, 8, 9]).unwrap();
    let bytes = session.save_bytes().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session");
    session.save(&path).unwrap();
    assert_eq!(bytes, std::fs::read(&path).unwrap());

    let expected: Vec<u32> = session.advance(&[3]).unwrap().iter().map(|logit| logit.to_bits()).collect();
    let next = |mut restored: Session| {
        assert_eq!(restored.tokens(), [5, 6, 7, 8, 9]);
        restored.advance(&[3]).unwrap().iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(next(engine.restore_bytes(&bytes).unwrap()), expected);
    assert_eq!(next(engine.restore(&path).unwrap()), expected);

    for damaged in [&bytes[..bytes.len() - 1], &bytes[..10], b"", b"something else entirely"] {
        let error = engine.restore_bytes(damaged).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("saved session: "), "{error}");
    }
    let mut flipped = bytes.clone();
    let last = flipped.len() - 40;
    flipped[last] ^= 1;
    assert!(engine.restore_bytes(&flipped).map(|_| ()).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn warnings_can_be_read_repeatedly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-a-directory");
    std::fs::write(&file, "").unwrap();
    let gpu = wgpt::GpuOptions { cache_dir: Some(file), ..Default::default() };
    let gpu = Arc::new(open_gpu(gpu));
    let engine = Engine::builder().model("tests/golden/gpt2-tiny").gpu(Arc::clone(&gpu)).build().unwrap();
    // Only Vulkan has a pipeline cache to write there.
    let expected = gpu.report().backend == wgpt::Backend::Vulkan;
    assert_eq!(!engine.warnings().is_empty(), expected, "{:?}", engine.warnings());
    assert_eq!(engine.warnings(), gpu.warnings());
}
