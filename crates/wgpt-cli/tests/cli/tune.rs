//! `wgpt tune`, and how other commands use the cache.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::{Run, wgpt_with};

/// The smallest model that has every kernel.
const SHAPE: &str = "n_layer=1,n_embd=16,n_head=2,n_inner=32,vocab_size=50,n_positions=32";
const GENERATE: &[&str] =
    &["generate", "--random", SHAPE, "--tokens", "1,2,3", "-n", "4", "--temp", "0", "--ignore-eos"];

/// Runs the program with `dir` as the cache.
fn cached(dir: &Path, args: &[&str]) -> Run {
    wgpt_with(args, "", &[("WGPT_CACHE_DIR", dir.to_str().unwrap())])
}

fn inspect(dir: &Path) -> (Value, String) {
    let run = cached(dir, &["inspect", "--random", SHAPE, "--json"]).ok();
    (serde_json::from_str(&run.stdout).unwrap(), run.stderr)
}

/// Returns the file of choices if there is one.
fn choices(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path());
    let mut files = names.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let file = files.next();
    assert!(files.next().is_none());
    file
}

#[test]
fn tuned_choices_are_stored_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let (before, _) = inspect(dir.path());
    assert_eq!(before["tuned"], false);
    let run = cached(dir.path(), &["tune", "--random", SHAPE, "--seconds", "0.3"]).ok();
    assert!(run.stdout.starts_with("operation  "), "{run:#?}");
    assert!(run.stdout.contains("\nlayer_norm "), "{run:#?}");
    let (after, stderr) = inspect(dir.path());
    assert_eq!((&after["tuned"], stderr.as_str()), (&Value::Bool(true), ""));

    let report = cached(dir.path(), &[GENERATE, &["--output-format", "json"]].concat()).json();
    assert_eq!((&report["tuned"], &report["variants"]), (&after["tuned"], &after["variants"]));
    let rows = ["bench", "model", "--random", SHAPE, "-p", "4", "-n", "0", "-r", "1", "-o", "json"];
    let rows = cached(dir.path(), &rows).json();
    assert_eq!(rows[0]["tuned"], true);
    assert!(rows[0]["variants"].as_str().unwrap().contains("gemm="), "{rows:#}");
    // A forced choice wins.
    let forced = cached(
        dir.path(),
        &["inspect", "--random", SHAPE, "--json", "--variant", "layer_norm=workgroup_128"],
    );
    assert_eq!(forced.json()["variants"]["layer_norm"], "workgroup_128");
}

#[test]
fn the_report_of_a_search_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("named");
    let named = path.to_str().unwrap();
    let args = ["tune", "--random", SHAPE, "--seconds", "0.3", "--json", "--cache-dir", named];
    let report = wgpt_with(&args, "", &[]).json();
    assert!(report["device"].is_string() && report["complete"].is_boolean(), "{report:#}");
    assert!(["gpu", "wall"].contains(&report["clock"].as_str().unwrap()));
    assert_eq!(report["dropped"].as_array().unwrap().len(), 0, "{report:#}");
    let first = &report["operations"][0];
    assert_eq!(first["op"], "layer_norm");
    assert!(first["default"].is_string() && first["chosen"].is_string(), "{report:#}");
    assert!(first["timed"][0]["median_ns"].as_f64().unwrap() > 0.0);
    assert!(choices(&path).is_some());
}

#[test]
fn options_that_a_search_would_ignore_are_refused() {
    for flag in [&["--deterministic"][..], &["--variant", "layer_norm=per_thread"]] {
        wgpt_with(&[&["tune", "--random", SHAPE], flag].concat(), "", &[]).fails(4, &["leave out --variant"]);
    }
}

#[test]
fn a_damaged_cache_is_a_warning_and_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let tune = || cached(dir.path(), &["tune", "--random", SHAPE, "--seconds", "0.1"]).ok();
    tune();
    let file = choices(dir.path()).unwrap();
    let clean = cached(dir.path(), GENERATE).ok();
    for entry in fs::read_dir(dir.path()).unwrap() {
        fs::write(entry.unwrap().path(), "{ \"format\"").unwrap();
    }
    let damaged = cached(dir.path(), GENERATE).ok();
    assert_eq!(damaged.stdout, clean.stdout);
    let warning = format!("warning: tuned choices {}: it is damaged", file.display());
    assert!(damaged.stderr.contains(&warning), "{damaged:#?}");
    let (report, stderr) = inspect(dir.path());
    assert!(report["tuned"] == false && stderr.contains(&warning), "{stderr}");
    tune();
    let (report, stderr) = inspect(dir.path());
    assert_eq!((&report["tuned"], stderr.as_str()), (&Value::Bool(true), ""));
    assert!(!cached(dir.path(), GENERATE).ok().stderr.contains("warning"));
}

#[test]
fn an_unwritable_cache_fails_tune_but_not_generate() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let run = cached(&file, &["tune", "--random", SHAPE, "--seconds", "0.1"]);
    run.fails(1, &["cannot write", file.to_str().unwrap()]);
    let run = cached(&file, &[GENERATE, &["--tune-seconds", "0.1"]].concat()).ok();
    assert!(run.stderr.contains("warning: kernels are not tuned: cannot write"), "{run:#?}");
}

#[test]
fn tuning_after_a_text_runs_once_and_only_if_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let off = cached(dir.path(), GENERATE).ok();
    let zero = cached(dir.path(), &[GENERATE, &["--tune-seconds", "0"]].concat()).ok();
    let deterministic = ["--tune-seconds", "0.1", "--deterministic"];
    cached(dir.path(), &[GENERATE, &deterministic].concat()).ok();
    assert!(choices(dir.path()).is_none());
    let no_cache = [GENERATE, &["--tune-seconds", "0.1", "--cache-dir", ""]].concat();
    assert_eq!(wgpt_with(&no_cache, "", &[]).ok().stdout, off.stdout);

    let tuned = || cached(dir.path(), &[GENERATE, &["--tune-seconds", "0.2"]].concat()).ok();
    assert_eq!([&tuned().stdout, &zero.stdout], [&off.stdout; 2]);
    let file = choices(dir.path()).unwrap();
    let written = fs::read(&file).unwrap();
    // The second time there is nothing to do, so a mark in the file stays.
    fs::write(&file, [&written[..], b"\n \n"].concat()).unwrap();
    assert_eq!(tuned().stdout, off.stdout);
    assert!(fs::read(&file).unwrap().ends_with(b"\n \n"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_after_the_text_ends_the_search_at_once() {
    use std::io::Read;

    let dir = tempfile::tempdir().unwrap();
    let cache = ["--tune-seconds", "600", "--cache-dir", dir.path().to_str().unwrap()];
    // Weights and kernels large enough to take a while. A search that ran to its end
    // would leave a file and exit with 0.
    let generate = ["generate", "--random", "gpt2,n_layer=2", "--tokens", "1", "-n", "1", "--temp", "0"];
    let mut child = crate::program::spawn(&[&generate[..], &cache].concat());
    let mut stdout = child.stdout.take().unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stdout.read_exact(&mut byte).unwrap();
    }
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(130));
    assert!(choices(dir.path()).is_none());
}
