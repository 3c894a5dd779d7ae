//! Directories: a single file, an index with shards, or neither.

use std::fs;

use safetensors::tensor::Dtype;
use tempfile::TempDir;
use wgpt::Error;
use wgpt::internals::checkpoint::Checkpoint;

use crate::support::parts::{Random, f32_part, half_part, model_error, oracle, serialized};

/// Returns a directory with shards `a` (tensors x, z) and `b` (tensor y).
fn sharded(index: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(6);
    let a = [f32_part("x", &[2, 3], &mut random), half_part("z", Dtype::F16, &[5], &mut random)];
    let b = [half_part("y", Dtype::BF16, &[4], &mut random)];
    fs::write(dir.path().join("a.safetensors"), serialized(&a)).unwrap();
    fs::write(dir.path().join("b.safetensors"), serialized(&b)).unwrap();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    dir
}

const GOOD_INDEX: &str = r#"{"metadata": {"total_size": 42},
    "weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}"#;

#[test]
fn shards_form_one_checkpoint() {
    let dir = sharded(GOOD_INDEX);
    let checkpoint = Checkpoint::open_dir(dir.path()).unwrap();
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["x", "y", "z"]);
    assert_eq!(checkpoint.total_bytes(), 24 + 8 + 10);
    let mut random = Random(6);
    let x = f32_part("x", &[2, 3], &mut random);
    let z = half_part("z", Dtype::F16, &[5], &mut random);
    let y = half_part("y", Dtype::BF16, &[4], &mut random);
    let mut reader = checkpoint.reader();
    for (name, dtype, shape, data) in [x, y, z] {
        let mut found = vec![0.0; shape.iter().product()];
        let n_rows = if shape.len() == 1 { 1 } else { shape[0] };
        let n_cols = *shape.last().unwrap();
        reader.read_block(checkpoint.get(name).unwrap(), 0..n_rows, 0..n_cols, &mut found).unwrap();
        assert_eq!(found, oracle(dtype, &data));
    }
    // A single file takes precedence, as in transformers.
    fs::copy(dir.path().join("b.safetensors"), dir.path().join("model.safetensors")).unwrap();
    assert_eq!(Checkpoint::open_dir(dir.path()).unwrap().tensors().len(), 1);
}

#[test]
fn faults_in_an_index_are_described() {
    let map = |entries: &str| format!("{{\"weight_map\": {{{entries}}}}}");
    let cases = [
        (
            "{\n\"weight_map\": {\"x\": ".to_owned(),
            "the index is damaged: EOF while parsing a value at line 2",
        ),
        ("[]".to_owned(), "the index is damaged"),
        ("{}".to_owned(), "missing field `weight_map`"),
        (r#"{"weight_map": 3}"#.to_owned(), "expected an object whose keys are tensor names"),
        (map(""), "its weight_map is empty"),
        (map(r#""x": 1"#), "expected a string"),
        (map(r#""x": "a.safetensors", "x": "b.safetensors""#), "tensor \"x\" occurs twice"),
        (
            map(r#""x": "a.safetensors", "q": "c.safetensors""#),
            "1 of 2 shards are not in the directory: c.safetensors",
        ),
        (
            map(r#""x": "a.safetensors", "w": "b.safetensors""#),
            "tensor \"w\" should be in b.safetensors, but no shard",
        ),
        (
            map(r#""x": "b.safetensors", "z": "a.safetensors""#),
            "tensor \"x\" should be in b.safetensors, but it is in a.safetensors",
        ),
    ];
    for (index, expected) in cases {
        let text = model_error(Checkpoint::open_dir(sharded(&index).path()));
        assert!(
            text.contains("model.safetensors.index.json: ") && text.contains(expected),
            "{text}\n{expected}"
        );
    }
    for path in ["../a.safetensors", "..", ".", "", "/etc/passwd", "x/a", "x\\\\a", "C:a", "a\\u0000"] {
        let text = model_error(Checkpoint::open_dir(sharded(&map(&format!(r#""x": "{path}""#))).path()));
        assert!(text.contains("without a path"), "{path:?}: {text}");
    }
    let dir = sharded(GOOD_INDEX);
    fs::copy(dir.path().join("a.safetensors"), dir.path().join("b.safetensors")).unwrap();
    let text = model_error(Checkpoint::open_dir(dir.path()));
    assert!(text.contains("tensor \"x\" is in two shards") && text.contains("b.safetensors"), "{text}");
    let dir = sharded(GOOD_INDEX);
    fs::write(dir.path().join("b.safetensors"), [0; 5]).unwrap();
    let text = model_error(Checkpoint::open_dir(dir.path()));
    assert!(text.contains("b.safetensors: the safetensors file is truncated"), "{text}");
}

#[test]
fn a_directory_without_safetensors_is_described_with_a_remedy() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "the directory is empty"),
        (&["config.json"], "the directory holds config.json. Download"),
        (&["config.json", "pytorch_model.bin"], "save_pretrained"),
        (&["model-Q4_K.GGUF"], "GGUF files are not supported"),
        (&["model-00001-of-00002.safetensors"], "shards need their index"),
        (
            &["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14"],
            "12 and 2 more",
        ),
    ];
    for (names, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let text = model_error(Checkpoint::open_dir(dir.path()));
        let looked_for = "found neither model.safetensors nor model.safetensors.index.json";
        assert!(text.contains(looked_for) && text.contains(expected), "{text}\nexpected {expected}");
    }
}

#[test]
fn paths_of_the_wrong_kind_are_described() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.txt");
    fs::write(&file, "x").unwrap();
    assert!(model_error(Checkpoint::open_dir(&file)).contains("is a file: give the directory"));
    assert!(model_error(Checkpoint::open_file(dir.path())).contains("found a directory"));
    let absent = dir.path().join("absent");
    for result in [Checkpoint::open_dir(&absent), Checkpoint::open_file(&absent)] {
        assert!(
            matches!(&result, Err(Error::Io { action: "open", path, .. }) if *path == absent),
            "{result:?}"
        );
    }
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert!(model_error(Checkpoint::open_dir(dir.path())).contains("model.safetensors: expected"));
}

#[cfg(unix)]
#[test]
fn a_dangling_link_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("../blobs/gone", dir.path().join("model.safetensors")).unwrap();
    let result = Checkpoint::open_dir(dir.path());
    assert!(
        matches!(&result, Err(Error::Io { path, .. }) if path.ends_with("model.safetensors")),
        "{result:?}"
    );
}
