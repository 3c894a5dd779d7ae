//! `wgpt eval`: reports, refusals, interruption. The tests of `wgpt-eval` check the figures
//! themselves.

use std::fs;

use serde_json::Value;

use crate::models::{Model, repository};
use crate::program::{wgpt, wgpt_with};

fn data(name: &str) -> String {
    repository("tests/golden/tasks").join(name).into_os_string().into_string().unwrap()
}

#[test]
fn json_reports_what_was_measured() {
    let file = data("hellaswag-200.txt");
    let args = ["eval", "hellaswag", &file, "--limit", "6", "--seed", "2", "--json", "--answers"];
    let report = wgpt(&args).json();
    let expected = serde_json::json!({
        "task": "hellaswag", "convention": "lm-eval", "shots": 0, "limit": 6, "seed": 2, "n": 6,
        "n_questions": 200, "n_resumed": 0, "context": 512, "complete": true, "model": "demo",
        "dtype": "f16", "version": env!("CARGO_PKG_VERSION"),
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&report[field], value, "{field}");
    }
    let readme = fs::read_to_string(repository("weights/README.md")).unwrap();
    assert!(readme.contains(report["model_sha256"].as_str().unwrap()));
    assert_eq!(report["data_sha256"].as_str().unwrap().len(), 64);
    for figure in ["acc", "acc_norm"] {
        assert!(report[figure]["value"].is_f64() && report[figure]["stderr"].is_f64(), "{report:#}");
    }
    assert!(report["cost"]["tokens_apart"].as_u64() > report["cost"]["tokens"].as_u64());
    let answers = report["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 6);
    for answer in answers {
        assert_eq!(answer["logprobs"].as_array().unwrap().len(), 4);
        assert!(answer["predicted"].as_u64() < Some(4) && answer["gold"].as_u64() < Some(4), "{answer}");
        assert_eq!(answer["line"].as_u64().unwrap() % 6, 1);
    }
    assert!(report.get("subjects").is_none());
}

#[test]
fn text_contains_convention_counts_and_digests() {
    let run = wgpt(&["eval", "mmlu", &data("mmlu-plain"), "--shots", "2", "-c", "160"]).ok();
    for part in [
        "| abstract_algebra                    | STEM            |     3 |",
        "| us_foreign_policy                   | social sciences |     2 |",
        "| STEM                                | 1 subject       |     3 |",
        "task           mmlu, convention lm-eval, 2 shots\n",
        "acc            0.",
        "questions      5 of 5\n",
        " questions, to fit the context of 160\n",
        " with one context per ending, ",
        "data sha256    ",
    ] {
        assert!(run.stdout.contains(part), "{part:?} is not in {run:#?}");
    }
    assert!(!run.stdout.contains("acc_norm"), "{run:#?}");
    let run = wgpt(&["eval", "mmlu", &data("mmlu-plain"), "--convention", "llmc", "--no-share"]).ok();
    assert!(run.stdout.contains("| acc_norm") || run.stdout.contains(" acc_norm |"), "{run:#?}");
    assert!(run.stdout.contains(" computed, one context per ending\n"), "{run:#?}");
    let lambada = data("lambada-60.jsonl");
    let run = wgpt(&["eval", "lambada", &lambada, "--limit", "3", "--measure-sharing"]).ok();
    assert!(
        run.stdout.contains("perplexity    ") && run.stdout.contains("3 of 60, drawn with seed 0"),
        "{run:#?}"
    );
}

#[test]
fn a_resumed_run_is_reported_as_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    let args = ["eval", "choices", &data("choices.jsonl"), "--resume", path.to_str().unwrap()];
    assert!(wgpt(&args).ok().stdout.contains("questions     5 of 5\n"));
    let run = wgpt(&args).ok();
    assert!(
        run.stdout.contains("5 of 5; 5 were already answered\n") && !run.stdout.contains("tokens"),
        "{run:#?}"
    );
    let other = [&args[..], &["--seed", "9"]].concat();
    wgpt(&other)
        .fails(4, &["run.json: the file belongs to another run: seed is 0 in the file and 9 in this run"]);
    // A file with other content is left unchanged, such as the model's config.
    let model = Model::demo();
    let config = format!("{}/config.json", model.path());
    let over = ["eval", "choices", &data("choices.jsonl"), "-m", model.path(), "--resume", &config];
    wgpt(&over).fails(4, &["config.json: this is not a complete file of answers (--resume)"]);
    assert_eq!(fs::read(&config).unwrap(), fs::read(repository("weights/config.json")).unwrap());
    fs::write(&path, "{").unwrap();
    wgpt(&args).fails(4, &["run.json: this is not a complete file of answers (--resume)"]);
}

#[test]
fn bad_data_and_missing_tokenizers_exit_with_4() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.jsonl");
    let file = path.to_str().unwrap();
    fs::write(&path, "{\"text\": \"a b\"}\n{\"txt\": 1}\n").unwrap();
    wgpt(&["eval", "lambada", file]).fails(4, &["bad.jsonl line 2: missing field `text`"]);
    wgpt(&["eval", "hellaswag", "no/such.jsonl"]).fails(4, &["cannot read no/such.jsonl"]);
    let shots = ["eval", "choices", &data("choices.jsonl"), "--shots", "1"];
    wgpt(&shots).fails(4, &["give a file of answered questions"]);
    let random = ["eval", "choices", &data("choices.jsonl"), "--random", "demo"];
    wgpt(&random).fails(4, &["random weights have no tokenizer"]);
    let usage: &[&[&str]] = &[
        &["eval"],
        &["eval", "arc", file],
        &["eval", "lambada"],
        &["eval", "lambada", file, "--convention", "mine"],
        &["eval", "lambada", file, "--answers"],
        &["eval", "lambada", file, "--no-share", "--measure-sharing"],
    ];
    for args in usage {
        assert_eq!(wgpt_with(args, "", &[]).code, Some(2), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_answers() {
    use std::io::Read;
    use std::time::{Duration, Instant};

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    // This takes minutes, because each question occurs many times.
    let many = dir.path().join("many.txt");
    fs::write(&many, fs::read_to_string(data("hellaswag-200.txt")).unwrap().repeat(50)).unwrap();
    let args = ["eval", "hellaswag", many.to_str().unwrap(), "--resume", path.to_str().unwrap()];
    let mut child = crate::program::spawn(&args);
    let held = || -> usize {
        let content: Value = serde_json::from_slice(&fs::read(&path).unwrap_or_default()).unwrap_or_default();
        content["answers"].as_array().map_or(0, Vec::len)
    };
    let started = Instant::now();
    while held() == 0 {
        assert!(started.elapsed() < Duration::from_secs(300), "no answer in five minutes");
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
    let mut streams = [String::new(), String::new()];
    child.stdout.take().unwrap().read_to_string(&mut streams[0]).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut streams[1]).unwrap();
    let [stdout, stderr] = streams;
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert!(
        stderr.contains("interrupted: the figures cover only the questions that were answered"),
        "{stderr}"
    );
    assert!(stdout.contains(&format!("questions     {} of 10000\n", held())), "{stdout}");
}
