//! Every prompt equals the wording of tools/export_tasks.py, byte for byte.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wgpt_eval::tasks::{Dataset, Question, Task};

use crate::{Source, golden, plain};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Prompt {
    context: String,
    continuations: Vec<String>,
    gold: usize,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    source: Source,
    n: usize,
    sha256: String,
    prompts: Vec<Prompt>,
}

fn prompt(dataset: &Dataset, question: &Question) -> Prompt {
    Prompt {
        context: dataset.prompt(question, 0),
        continuations: question.continuations.clone(),
        gold: question.gold,
    }
}

#[test]
fn prompts_match_the_conventions() {
    let entries: Vec<Entry> =
        serde_json::from_slice(&std::fs::read(golden("prompts.json")).unwrap()).unwrap();
    assert_eq!(entries.len(), 12);
    for entry in entries {
        let dataset = entry.source.read();
        let found: Vec<Prompt> =
            dataset.questions.iter().map(|question| prompt(&dataset, question)).collect();
        for (i, (found, expected)) in found.iter().zip(&entry.prompts).enumerate() {
            assert_eq!(found, expected, "question {i} of {:?}", entry.source);
        }
        assert_eq!(found.len(), entry.n, "{:?}", entry.source);
        let lines: String =
            found.iter().map(|prompt| serde_json::to_string(prompt).unwrap() + "\n").collect();
        let digest: String =
            Sha256::digest(lines.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, entry.sha256, "a question after the first ones of {:?}", entry.source);
    }
}

/// The published example of HellaSwag's README, and lm-eval's prompt for it.
#[test]
fn the_published_example_has_the_expected_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.jsonl");
    std::fs::write(
        &path,
        r#"{"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.",
        "ctx_b": "he", "ctx": "A man is sitting on a roof. he", "split": "val", "split_type": "indomain",
        "label": 3, "endings": ["is using wrap to wrap a pair of skis.", "is ripping level tiles off.",
        "is holding a rubik's cube.", "starts pulling up roofing on a roof."]}"#
            .replace('\n', " "),
    )
    .unwrap();
    let dataset = Dataset::read(Task::Hellaswag, &path, &Default::default()).unwrap();
    let question = &dataset.questions[0];
    assert_eq!(question.context, "Roof shingle removal: A man is sitting on a roof. He");
    assert_eq!(question.continuations[3], " starts pulling up roofing on a roof.");
    assert_eq!((question.gold, question.answer_chars(1)), (3, "is ripping level tiles off.".len()));
}

/// Lengths are in characters, not bytes, and shots are dropped from the front.
#[test]
fn lengths_are_in_characters_and_the_first_shots_are_dropped() {
    let dataset = plain(Task::Hellaswag, "hellaswag-raw.jsonl");
    let cafe = &dataset.questions[4];
    assert_eq!(cafe.continuations[3], " 日本語で話す。");
    assert_eq!(cafe.answer_chars(3), 7);
    let source = Source {
        task: Task::Mmlu,
        data: "mmlu-plain".into(),
        convention: Default::default(),
        shots: 2,
        shots_file: None,
    };
    let dataset = source.read();
    let question = &dataset.questions[0];
    let whole = dataset.prompt(question, 0);
    let heading = "The following are multiple choice questions (with answers) about abstract algebra.\n\n";
    let first = "What is the order of the trivial group?\nA. 0\nB. 1\nC. 2\nD. infinite\nAnswer: B\n\n";
    assert!(whole.starts_with(&format!("{heading}{first}")), "{whole}");
    assert_eq!(dataset.prompt(question, 1), whole.replace(first, ""));
    assert_eq!(dataset.prompt(question, 2), format!("{heading}{}", question.context));
    assert_eq!(dataset.prompt(question, 9), dataset.prompt(question, 2));
}
