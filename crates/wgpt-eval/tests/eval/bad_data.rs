//! Errors in data name file and line and say what to do.

use std::fs;
use std::path::Path;

use wgpt::{Error, ErrorKind};
use wgpt_eval::tasks::{Convention, DataOptions, Dataset, Task, TaskOptions, evaluate};

use crate::support::models::repository;
use crate::{DEMO, golden};

const GOOD: &str =
    r#"{"activity_label":"a","ctx_a":"b.","ctx_b":"c","ctx":"b. c","endings":["d","e","f","g"],"label":1}"#;

fn fault(task: Task, path: &Path, options: &DataOptions) -> String {
    let error = Dataset::read(task, path, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    error.to_string()
}

/// Returns the message for a file with these bytes.
fn message(task: Task, content: &[u8], convention: Convention) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    fs::write(&path, content).unwrap();
    fault(task, &path, &DataOptions { convention, ..DataOptions::default() })
}

#[track_caller]
fn refused(task: Task, content: impl AsRef<[u8]>, parts: &[&str]) {
    let message = message(task, content.as_ref(), Convention::LmEval);
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn hellaswag_lines_are_checked() {
    let bad = |from: &str, to: &str, parts: &[&str]| {
        let content = format!("{GOOD}\n\n{}\n", GOOD.replace(from, to));
        assert_ne!(content, format!("{GOOD}\n\n{GOOD}\n"));
        refused(Task::Hellaswag, content, &[&["data.jsonl line 3: "], parts].concat());
    };
    bad(r#","label":1"#, "", &["missing field `label`"]);
    bad(r#""ctx_a":"b.","#, "", &["missing field `ctx_a`"]);
    bad(r#""activity_label":"a","#, "", &["missing field `activity_label`"]);
    bad(r#""ctx_b":"c""#, r#""ctx_b":7"#, &["invalid type: integer `7`, expected a string"]);
    bad(r#""label":1"#, r#""label":4"#, &["the answer is 4, but there are 4 endings: expected 0 to 3"]);
    bad(r#""label":1"#, r#""label":-1"#, &["label = -1: expected 0 to 3"]);
    bad(r#""label":1"#, r#""label":"""#, &["label = \"\"", "the test split has no labels"]);
    bad(r#","g""#, "", &["3 endings: expected 4"]);
    bad(r#","g""#, r#","g","h""#, &["5 endings: expected 4"]);
    bad(r#""f""#, r#""""#, &["ending 2 is empty", "remove the question"]);
    bad(r#""f""#, r#"" [step]  ""#, &["ending 2 is empty"]);
    bad("}", "", &["the line is not JSON: EOF", "correct the line or remove it"]);
    bad("\"ctx\"", "ctx", &["the line is not JSON", "column"]);
}

#[test]
fn only_llmc_requires_the_raw_context() {
    let without = GOOD.replace(r#""ctx":"b. c","#, "");
    let missing = message(Task::Hellaswag, without.as_bytes(), Convention::Llmc);
    assert!(missing.contains("line 1: missing field `ctx`"), "{missing}");
    let raw = r#"{"ctx":"b. c","endings":["d","e","f","g"],"label":1}"#;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raw.jsonl");
    fs::write(&path, raw).unwrap();
    let options = DataOptions { convention: Convention::Llmc, ..DataOptions::default() };
    assert_eq!(Dataset::read(Task::Hellaswag, &path, &options).unwrap().questions[0].context, "b. c");
    let options = DataOptions { convention: Convention::Llmc, ..DataOptions::default() };
    let text = fault(Task::Hellaswag, &golden("hellaswag-200.txt"), &options);
    assert!(
        text.contains("hellaswag-200.txt line 1: the six-line form has the contexts of lm-eval"),
        "{text}"
    );
}

#[test]
fn six_line_questions_are_checked() {
    let good = "A context. he\n3\nruns.\nsits.\nsings.\nsleeps.\n";
    refused(Task::Hellaswag, format!("{good}Another\n1\na\n"), &["line 9: the file ends within a question"]);
    refused(Task::Hellaswag, good.replace('3', "4"), &["line 2: the answer is 4: expected 0 to 3"]);
    refused(Task::Hellaswag, good.replace('3', "D"), &["line 2: \"D\" is not an answer: expected 0 to 3"]);
    let empty = format!("{good}{}", good.replace("sings.", " "));
    refused(Task::Hellaswag, empty, &["line 11: the line is empty"]);
}

#[test]
fn encodings_are_checked() {
    for task in [Task::Hellaswag, Task::Lambada, Task::Choices] {
        refused(
            task,
            b"{\"text\": \"a b\"}\n\xff\xfe",
            &["data.jsonl line 2: the text is not UTF-8", "convert the file"],
        );
        refused(task, b"", &["data.jsonl line 1: the file is empty"]);
        refused(task, b" \n\n", &["the file is empty"]);
    }
    // A byte order mark is not part of the text.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("marked.jsonl");
    fs::write(&path, format!("\u{feff}{GOOD}")).unwrap();
    assert_eq!(Dataset::read(Task::Hellaswag, &path, &DataOptions::default()).unwrap().questions.len(), 1);
}

#[test]
fn lambada_and_choices_are_checked() {
    refused(Task::Lambada, r#"{"txt": "a b"}"#, &["line 1: missing field `text`"]);
    refused(Task::Lambada, r#"{"text": "a b "}"#, &["line 1: the text does not end in a word to predict"]);
    refused(Task::Lambada, r#"{"text": ""}"#, &["line 1: the text does not end in a word to predict"]);
    let choices =
        |line: &str| format!("{{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0}}\n{line}");
    let bad = |line: &str, parts: &[&str]| {
        refused(Task::Choices, choices(line), &[&["data.jsonl line 2: "], parts].concat());
    };
    bad(r#"{"choices":["b","c"],"answer":0}"#, &["missing field `context`"]);
    bad(r#"{"context":"a","answer":0}"#, &["missing field `choices`"]);
    bad(r#"{"context":"a","choices":["b","c"]}"#, &["missing field `answer`"]);
    bad(r#"{"context":"a","choices":["b"],"answer":0}"#, &["1 choice: expected 2 or more"]);
    bad(r#"{"context":"a","choices":["b",""],"answer":0}"#, &["ending 1 is empty"]);
    for answer in ["2", "-1", "0.5", "null", "\"C\"", "\"a\"", "\"\"", "[0]"] {
        let line = format!("{{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":{answer}}}");
        bad(&line, &[&format!("answer = {answer}: expected a number from 0 to 1 or a letter from A")]);
    }
}

/// Reads a folder of one subject with this content.
fn mmlu(test: &[u8], dev: Option<&str>, shots: usize) -> Result<Dataset, Error> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("test")).unwrap();
    fs::create_dir(dir.path().join("dev")).unwrap();
    fs::write(dir.path().join("test/virology_test.csv"), test).unwrap();
    if let Some(dev) = dev {
        fs::write(dir.path().join("dev/virology_dev.csv"), dev).unwrap();
    }
    Dataset::read(Task::Mmlu, dir.path(), &DataOptions { shots, ..DataOptions::default() })
}

#[test]
fn mmlu_files_are_checked() {
    let header = "question,choice0,choice1,choice2,choice3,answer\n";
    let good = "Which?,a,b,c,d,2\n";
    let bad = |content: &str, parts: &[&str]| {
        let error = mmlu(content.as_bytes(), None, 0).unwrap_err().to_string();
        for part in [&["virology_test.csv line "], parts].concat() {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    };
    bad(&format!("{header}{good}Which?,a,b,c,d,4\n"), &["line 3: answer \"4\": expected 0 to 3 or A to D"]);
    bad(&format!("{good}Which?,a,b,c,d,E\n"), &["line 2: answer \"E\""]);
    bad("Which?,a,b,c,d,e\n", &["line 1: answer \"e\""]);
    bad(&format!("{good}Which?,a,b,c,2\n"), &["line 2: 5 columns: expected 6"]);
    bad(&format!("{good}\"Which?,a,b,c,d,2\n{good}"), &["line 2: ", "look for an unclosed quote"]);
    bad(&format!("{good}Which?,a,,c,d,2\n"), &["line 2: column 3 is empty"]);
    bad(&format!("{good} ,a,b,c,d,2\n"), &["line 2: column 1 is empty"]);
    bad(header, &["line 1: the file has only a header"]);
    bad("", &["line 1: the file is empty"]);
    let error = mmlu(b"Which?,a,b,c,d,2\nWas\xff?,a,b,c,d,2\n", None, 0).unwrap_err().to_string();
    assert!(error.contains("virology_test.csv line 2: the text is not UTF-8"), "{error}");
    // The lines of a multi-line question are counted.
    let error = mmlu(b"\"Which\none?\",a,b,c,d,2\nWhich?,a,b,c,d,7\n", None, 0).unwrap_err().to_string();
    assert!(error.contains("virology_test.csv line 3: answer \"7\""), "{error}");
    let both = [format!("{header}{good}"), good.replace('2', "C")].map(|text| mmlu(text.as_bytes(), None, 0));
    let [with, without] = both.map(|dataset| dataset.unwrap().questions);
    assert_eq!((with[0].gold, without[0].gold, with[0].line), (2, 2, 2));
    assert_eq!(with[0].context, without[0].context);
}

#[test]
fn shots_must_exist() {
    let good = "Which?,a,b,c,d,2\n";
    let error = mmlu(good.as_bytes(), None, 1).unwrap_err().to_string();
    assert!(error.contains("virology_dev.csv: this file with the shots does not exist"), "{error}");
    let error = mmlu(good.as_bytes(), Some(good), 2).unwrap_err().to_string();
    assert!(error.contains("virology_dev.csv has 1 question, too few for 2 shots"), "{error}");
    assert_eq!(mmlu(good.as_bytes(), Some(good), 1).unwrap().subjects[0].shots.len(), 1);
    let options = |shots, file: Option<&str>, convention| DataOptions {
        shots,
        shots_file: file.map(golden),
        convention,
    };
    let raw = golden("hellaswag-raw.jsonl");
    let cases = [
        (Task::Hellaswag, options(1, None, Convention::LmEval), "has no split for them"),
        (Task::Choices, options(1, None, Convention::LmEval), "DataOptions::shots_file"),
        (Task::Lambada, options(1, None, Convention::LmEval), "lambada uses no shots"),
        (Task::Lambada, options(1, Some("x"), Convention::LmEval), "lambada uses no shots"),
        (Task::Mmlu, options(1, Some("x"), Convention::LmEval), "mmlu takes its shots from dev/"),
        (Task::Hellaswag, options(0, Some("x"), Convention::LmEval), "a shots file needs a number of shots"),
        (Task::Hellaswag, options(1, Some("x"), Convention::Llmc), "llm.c uses no shots"),
        (Task::Lambada, options(0, None, Convention::Llmc), "llm.c has no lambada"),
    ];
    for (task, options, part) in cases {
        let message = fault(task, &raw, &options);
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn paths_are_checked() {
    let tests = repository("tests");
    let message = |task, path: &str| fault(task, Path::new(path), &DataOptions::default());
    assert!(message(Task::Hellaswag, "no/such.jsonl").contains("cannot read no/such.jsonl"));
    assert!(message(Task::Mmlu, "no/such").contains("no/such is not a folder: expected MMLU's csv files"));
    assert!(message(Task::Mmlu, tests.to_str().unwrap()).contains("tests has no folder test/"));
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("test")).unwrap();
    assert!(message(Task::Mmlu, dir.path().to_str().unwrap()).contains("has no SUBJECT_test.csv"));
}

/// A fault that shows only with the model's tokenizer and context.
#[test]
fn endings_must_fit_the_context() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.jsonl");
    let long = "word ".repeat(600);
    fs::write(&path, format!("{{\"context\":\"a\",\"choices\":[\"b\",\"{long}\"],\"answer\":0}}")).unwrap();
    let dataset = Dataset::read(Task::Choices, &path, &DataOptions::default()).unwrap();
    let mut progress = |_| std::ops::ControlFlow::Continue(());
    let error = evaluate(&DEMO, &dataset, &TaskOptions::default(), &mut progress).unwrap_err().to_string();
    assert!(
        error.contains("long.jsonl line 1: an ending has ") && error.contains("512 positions"),
        "{error}"
    );
    let limit = TaskOptions { limit: Some(0), ..TaskOptions::default() };
    let error = evaluate(&DEMO, &dataset, &limit, &mut progress).unwrap_err().to_string();
    assert!(error.contains("a limit of 0 questions"), "{error}");
}
