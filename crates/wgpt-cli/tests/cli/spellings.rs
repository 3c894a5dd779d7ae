//! Old spellings of options, and files that options name.

use crate::models::golden;
use crate::program::{wgpt, wgpt_with};

#[test]
fn the_option_o_takes_a_file_and_still_a_format() {
    let dir = tempfile::TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let tiny = golden("gpt2-tiny");
    let bench = ["bench", "model", "-m", &tiny, "-r", "1"];
    let old = wgpt(&[&bench[..], &["-p", "4", "-n", "0", "-o", "json"]].concat()).ok();
    assert!(old.stderr.contains("-o json will name a file") && old.stderr.contains("--json"), "{old:?}");
    let rows: serde_json::Value = serde_json::from_str(&old.stdout).unwrap();
    let file = at("rows.txt");
    let new = [&bench[..], &["--n-prompt", "4", "--n-gen", "0", "--json", "-o", &file]].concat();
    let new = wgpt(&new).ok();
    assert_eq!(new.stdout, "");
    assert!(new.stderr.contains("wrote") && !new.stderr.contains("next release"), "{new:?}");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written[0]["test"], rows[0]["test"]);
    wgpt(&[&bench[..], &["-o", "json", "--csv"]].concat()).fails(2, &["-o json is an old spelling"]);

    // A record is never taken for the picture.
    let before = std::fs::read(&file).unwrap();
    wgpt(&["bench", "plot", &file, &file]).fails(2, &["-o FILE"]);
    wgpt(&["bench", "plot", &file, "-o", &file]).fails(4, &["would overwrite the input"]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn outputs_differ_from_inputs_and_from_each_other() {
    let dir = tempfile::TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let prompt = at("prompt.txt");
    std::fs::write(&prompt, "Once upon a time").unwrap();
    wgpt(&["logits", "--prompt-file", &prompt, "-o", &prompt]).fails(4, &["would overwrite the input"]);
    wgpt(&["perplexity", &prompt, "-o", &prompt]).fails(4, &["would overwrite the input"]);
    assert_eq!(std::fs::read(&prompt).unwrap(), b"Once upon a time");
    std::fs::create_dir(at("sub")).unwrap();
    let same = ["perplexity", "-", "--tokens-csv", &at("a"), "--html", &at("sub/../a")];
    wgpt_with(&same, "Once upon a time", &[]).fails(4, &["--tokens-csv and --html name the same file"]);
    wgpt_with(&["perplexity", "-", "--batch-tokens", "0"], "Once upon a time", &[])
        .fails(2, &["--batch-tokens"]);
}

#[test]
fn a_bad_session_is_refused_before_a_device_is_opened() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("wrong.session");
    std::fs::write(&file, "no session").unwrap();
    let args = ["generate", "-p", "", "--session", file.to_str().unwrap(), "--device", "no such device"];
    wgpt(&args).fails(4, &["not a saved session"]);
}
