use std::path::PathBuf;

use super::*;
use crate::model::random;

fn files(shape: &str) -> ModelFiles {
    ModelFiles::random(random::shape(shape).unwrap(), 1).unwrap()
}

const SHAPE: &str = "n_layer=1,n_embd=8,n_head=1,n_inner=8,vocab_size=30,n_positions=16";

/// Writes a session of `n_tokens` tokens without pages.
fn save(files: &ModelFiles, n_tokens: u32, path: &Path) {
    let header = Header {
        wgpt: "0".into(),
        name: files.name().to_owned(),
        model: files.identity().unwrap().clone(),
        n_tokens: n_tokens.into(),
        pages: None,
        first_pages: Vec::new(),
    };
    let mut writer = Writer::new(Target::File(NewFile::create(path).unwrap()), &header).unwrap();
    (0..n_tokens).for_each(|token| writer.write(&token.to_le_bytes()).unwrap());
    writer.finish().unwrap();
}

fn refused(path: &Path, files: &ModelFiles, n_ctx: usize) -> String {
    check_saved(path, files, n_ctx).unwrap_err().to_string()
}

#[test]
fn a_file_is_checked_without_an_engine() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let model = files(SHAPE);
    save(&model, 5, &at("a"));
    check_saved(&at("a"), &model, 5).unwrap();
    let short = refused(&at("a"), &model, 4);
    assert!(short.contains("has 5 tokens, but the context holds 4"), "{short}");
    let other = refused(&at("a"), &files(&SHAPE.replace("n_inner=8", "n_inner=16")), 5);
    assert!(other.contains("another model: its config.json differs"), "{other}");
    let bytes = std::fs::read(at("a")).unwrap();
    std::fs::write(at("cut"), &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&at("cut"), &model, 5).contains("cut short"));
    std::fs::write(at("text"), "Once upon a time").unwrap();
    assert!(refused(&at("text"), &model, 5).contains("not a saved session"));
    assert!(refused(&at("none"), &model, 5).contains("none"));
}
