//! `wgpt logits`: the content of the file, and what remains if the command fails.

use std::fs;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::models::{Model, golden, golden_f64, golden_ids};
use crate::program::{joined, wgpt};

/// The engine computes in f32, the reference in f64. The bound is the same as for whole
/// models: sums of 64 to 256 products round to about 1e-5 for logits of size 10.
const TOLERANCE: f64 = 2e-4;

#[test]
fn the_file_contains_the_logits_of_every_position() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logits.safetensors");
    let ids = golden_ids("gpt2-tiny", "input_ids");
    let ids = &ids[..ids.len() / 2];
    let expected = golden_f64("gpt2-tiny", "logits_f64");
    let (model, tokens) = (golden("gpt2-tiny"), joined(ids));
    let args = ["logits", "-m", &model, "--tokens", &tokens, "--dtype", "f32", "--kv-dtype", "f32"];
    for chunk in ["256", "5"] {
        let output = ["--output", path.to_str().unwrap(), "--prefill-chunk", chunk];
        let run = wgpt(&[&args[..], &output].concat()).ok();
        assert_eq!(run.stdout, "");
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let input = file.tensor("input_ids").unwrap();
        assert_eq!((input.dtype(), input.shape()), (Dtype::I32, &[ids.len()][..]));
        let found: Vec<u64> =
            input.data().chunks_exact(4).map(|b| u64::from(b[0]) + 256 * u64::from(b[1])).collect();
        assert_eq!(found, ids);
        let logits = file.tensor("logits").unwrap();
        assert_eq!((logits.dtype(), logits.shape()), (Dtype::F32, &[ids.len(), 1000][..]));
        let worst = logits
            .data()
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .zip(&expected)
            .map(|(found, expected)| (found - expected).abs())
            .fold(0.0, f64::max);
        assert!(worst <= TOLERANCE, "chunk {chunk}: {worst}");
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!(
            [&metadata["model"], &metadata["dtype"], &metadata["kv_dtype"]],
            ["gpt2-tiny", "f32", "f32"]
        );
        assert_eq!(metadata["wgpt_version"], env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "temporary files remain");
}

#[test]
fn unwritable_paths_are_reported_and_no_file_remains() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let missing = dir.path().join("no/such/logits.safetensors");
    wgpt(&["logits", "-p", "Once", "--output", missing.to_str().unwrap()])
        .fails(1, &["cannot write", "no/such"]);
    wgpt(&["logits", "-p", "Once", "--output", folder]).fails(1, &["cannot write", "it is not a file"]);
    // A faulty token, found while the file is open.
    let path = dir.path().join("old.safetensors");
    fs::write(&path, "old").unwrap();
    let model = golden("gpt2-tiny");
    wgpt(&["logits", "-m", &model, "--tokens", "1,1000", "--output", path.to_str().unwrap()])
        .fails(4, &["token 1000 is outside the vocabulary"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_models_own_files_and_nan_logits_are_refused() {
    let model = Model::tiny().with_value("transformer.h.0.attn.c_attn.bias", 100, 1e5);
    let weights = format!("{}/model.safetensors", model.path());
    let before = fs::read(&weights).unwrap();
    let logits = |output: &str, more: &[&str]| {
        wgpt(&[&["logits", "-m", model.path(), "--tokens", "1,2,3", "--output", output], more].concat())
    };
    logits(&weights, &[]).fails(4, &["this is a file of the model"]);
    assert_eq!(fs::read(&weights).unwrap(), before);
    // A key of 1e5 overflows the f16 cache.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logits.safetensors");
    let output = path.to_str().unwrap();
    logits(output, &["--detect-overflow=false"]).fails(4, &["contain NaN", "--kv-dtype f32"]);
    for on in ["--detect-overflow", "--detect-overflow=true"] {
        logits(output, &[on]).fails(4, &["layer 0: the key at position 0", "--kv-dtype f32"]);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    logits(output, &["--detect-overflow", "--kv-dtype", "f32"]).ok();
}
