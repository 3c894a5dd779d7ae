//! Runs that are interrupted and resumed.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use wgpt::{Error, ErrorKind};
use wgpt_eval::tasks::{Convention, DataOptions, Dataset, Task, TaskOptions, TaskReport, evaluate};

use crate::{DEMO, golden, plain, run};

fn options(path: &Path, limit: usize) -> TaskOptions {
    TaskOptions { limit: Some(limit), seed: 5, resume: Some(path.to_owned()), ..TaskOptions::default() }
}

fn held(path: &Path) -> usize {
    let content: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    content["answers"].as_array().unwrap().len()
}

fn same(a: &TaskReport, b: &TaskReport) {
    assert_eq!((&a.figures, a.complete), (&b.figures, b.complete));
    for (a, b) in a.answers.iter().zip(&b.answers) {
        assert_eq!((a.index, a.best(), &a.n_tokens), (b.index, b.best(), &b.n_tokens));
    }
}

#[test]
fn an_interrupted_run_resumes_without_repeating_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    let dataset = plain(Task::Hellaswag, "hellaswag-200.txt");
    let whole = run(&DEMO, &dataset, &TaskOptions { resume: None, ..options(&path, 16) });

    // Interrupted by the callback.
    let broken = evaluate(&DEMO, &dataset, &options(&path, 16), &mut |_| ControlFlow::Break(())).unwrap();
    assert!(!broken.complete && broken.figures.n < 16);
    assert_eq!(held(&path), broken.figures.n);

    // Interrupted by the flag, which another thread may raise.
    let cancel = Arc::new(AtomicBool::new(false));
    let cancelled = TaskOptions { cancel: Some(Arc::clone(&cancel)), ..options(&path, 16) };
    let mut seen = Vec::new();
    let second = evaluate(&DEMO, &dataset, &cancelled, &mut |state| {
        seen.push((state.resumed, state.done, state.total));
        cancel.store(true, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    let second = second.unwrap();
    assert_eq!((seen.len(), seen[0].0, seen[0].2), (1, broken.figures.n, 16));
    assert_eq!((second.n_resumed, second.figures.n), (broken.figures.n, seen[0].1));
    assert_eq!(held(&path), second.figures.n);

    let third = run(&DEMO, &dataset, &options(&path, 16));
    assert_eq!(third.n_resumed, second.figures.n);
    same(&third, &whole);
    let apart = [broken, second, third].map(|report| report.cost.tokens_apart);
    assert_eq!(apart.iter().sum::<u64>(), whole.cost.tokens_apart, "each question ran once");

    let fourth = run(&DEMO, &dataset, &options(&path, 16));
    assert_eq!((fourth.n_resumed, fourth.cost.tokens), (16, 0));
    same(&fourth, &whole);

    // A smaller limit uses fewer of the answers, a larger one keeps them.
    let fewer = run(&DEMO, &dataset, &options(&path, 8));
    assert_eq!((fewer.figures.n, fewer.n_resumed, fewer.cost.tokens), (8, 8, 0));
    assert_eq!(held(&path), 16);
    let more = run(&DEMO, &dataset, &options(&path, 18));
    assert_eq!((more.figures.n, more.n_resumed), (18, 16));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "there is no other file");
}

#[test]
fn a_run_cancelled_at_once_has_no_figures() {
    let cancel = Arc::new(AtomicBool::new(true));
    let dataset = plain(Task::Lambada, "lambada-60.jsonl");
    let options = TaskOptions { cancel: Some(cancel), ..TaskOptions::default() };
    let result = evaluate(&DEMO, &dataset, &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
}

fn refused(dataset: &Dataset, options: &TaskOptions) -> String {
    let error = evaluate(&DEMO, dataset, options, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    error.to_string()
}

#[test]
fn a_file_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    let dataset = plain(Task::Choices, "choices.jsonl");
    let options = TaskOptions { resume: Some(path.clone()), ..TaskOptions::default() };
    run(&DEMO, &dataset, &options);
    let before = fs::read(&path).unwrap();

    let message = refused(&dataset, &TaskOptions { seed: 1, ..options.clone() });
    assert!(
        message
            .contains("run.json: the file belongs to another run: seed is 0 in the file and 1 in this run"),
        "{message}"
    );
    assert!(message.contains("name another file"), "{message}");
    let read = |task, data: &str, shots, convention| {
        let shots_file = (shots > 0).then(|| golden(data));
        Dataset::read(task, &golden(data), &DataOptions { convention, shots, shots_file }).unwrap()
    };
    let others = [
        (
            read(Task::Lambada, "lambada-60.jsonl", 0, Convention::LmEval),
            "task is choices in the file and lambada in this run",
        ),
        (
            read(Task::Choices, "choices.jsonl", 0, Convention::Llmc),
            "convention is lm-eval in the file and llmc in this run",
        ),
        (
            read(Task::Choices, "choices.jsonl", 1, Convention::LmEval),
            "shots is 0 in the file and 1 in this run",
        ),
    ];
    for (other, part) in &others {
        let message = refused(other, &options);
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let changed = Dataset { sha256: "0".repeat(64), ..dataset.clone() };
    assert!(refused(&changed, &options).contains("data_sha256 is "));
    for (field, value) in [("model_sha256", "0"), ("context", "511"), ("dtype", "\"f16\"")] {
        let mut content: Value = serde_json::from_slice(&before).unwrap();
        content["run"][field] =
            if field == "model_sha256" { Value::from(value) } else { serde_json::from_str(value).unwrap() };
        fs::write(&path, content.to_string()).unwrap();
        let message = refused(&dataset, &options);
        assert!(message.contains(&format!("{field} is ")), "{field}: {message}");
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    let dataset = plain(Task::Choices, "choices.jsonl");
    let options = TaskOptions { resume: Some(path.clone()), ..TaskOptions::default() };
    run(&DEMO, &dataset, &options);
    let whole = fs::read_to_string(&path).unwrap();
    let mut content: Value = serde_json::from_str(&whole).unwrap();
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut changed = content.clone();
        edit(&mut changed);
        changed.to_string()
    };
    let cases = [
        (whole[..whole.len() / 2].to_owned(), "this is not a complete file of answers (TaskOptions::resume)"),
        (String::new(), "this is not a complete file of answers (TaskOptions::resume)"),
        ("{}".to_owned(), "this is not a complete file of answers (TaskOptions::resume): missing field"),
        (with(&|content| content["format"] = 2.into()), "the file has format 2, but this version reads 1"),
        (
            with(&|content| content["answers"][0]["index"] = 99.into()),
            "the answer to question 99 does not fit",
        ),
        (with(&|content| content["answers"][0]["index"] = 1.into()), "the answer to question 1 does not fit"),
        (
            with(&|content| content["answers"][0]["logprobs"] = Vec::<f64>::new().into()),
            "does not fit the data",
        ),
        (
            with(&|content| content["answers"][0]["logprobs"][0] = Value::Null),
            "this is not a complete file of answers",
        ),
    ];
    for (text, part) in cases {
        fs::write(&path, &text).unwrap();
        let message = refused(&dataset, &options);
        assert!(
            message.contains(part) && message.contains("remove the file to start again"),
            "{part}: {message}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left as it was");
    }
    content["answers"] = Value::Array(Vec::new());
    fs::write(&path, content.to_string()).unwrap();
    assert_eq!(run(&DEMO, &dataset, &options).n_resumed, 0);
    let nowhere = TaskOptions { resume: Some(dir.path().join("run.json/x")), ..TaskOptions::default() };
    let result = evaluate(&DEMO, &dataset, &nowhere, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
}
