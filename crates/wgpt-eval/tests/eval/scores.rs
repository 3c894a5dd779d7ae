//! The demo model's scores against transformers in float64 on the same questions.

use serde::Deserialize;
use wgpt_eval::tasks::{Answer, Dataset, Sharing, Task, TaskOptions, TaskReport};

use crate::{DEMO, Source, golden, plain, run};

/// transformers' result for one question: sums, tokens, best, best for its length,
/// whether the first ending is greedy, shots dropped, whether it was truncated.
type Row = (Vec<f64>, Vec<usize>, usize, usize, bool, usize, bool);

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    source: Source,
    right: usize,
    right_norm: usize,
    answers: Vec<Row>,
}

/// Tolerance for a sum of some tens of log-probabilities of a model in f32, relative to its
/// size.
/// The largest error seen is 2e-6.
const TOLERANCE: f64 = 2e-5;

fn check(dataset: &Dataset, answer: &Answer, expected: &Row) {
    let question = &dataset.questions[answer.index];
    let (sums, n_tokens, best, best_norm, greedy, shots_dropped, truncated) = expected;
    let place = format!("{} {} line {}", dataset.task, dataset.convention.name(), question.line);
    for (found, expected) in answer.logprobs.iter().zip(sums) {
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error < TOLERANCE, "{place}: {found}, not {expected}");
    }
    assert_eq!(&answer.n_tokens, n_tokens, "{place}");
    assert_eq!((answer.shots_dropped, answer.truncated), (*shots_dropped, *truncated), "{place}");
    assert_eq!(answer.best(), *best, "{place}: {answer:?}");
    if dataset.task == Task::Lambada {
        assert_eq!(answer.greedy, Some(*greedy), "{place}");
    } else {
        assert_eq!(answer.best_normalized(question, dataset.convention), *best_norm, "{place}: {answer:?}");
    }
}

fn share(right: usize, report: &TaskReport) -> f64 {
    right as f64 / report.figures.n as f64
}

#[test]
fn answers_match_transformers() {
    let entries: Vec<Entry> = serde_json::from_slice(&std::fs::read(golden("scores.json")).unwrap()).unwrap();
    let mut n_of_200 = 0;
    for Entry { source, right, right_norm, answers } in entries {
        let dataset = source.read();
        let report = run(&DEMO, &dataset, &TaskOptions::default());
        assert_eq!((report.answers.len(), report.complete), (answers.len(), true), "{source:?}");
        for (answer, expected) in report.answers.iter().zip(&answers) {
            check(&dataset, answer, expected);
        }
        assert_eq!(report.figures.acc.value, share(right, &report), "{source:?}");
        if let Some(norm) = report.figures.acc_norm {
            assert_eq!(norm.value, share(right_norm, &report), "{source:?}");
        }
        let dropped: usize = answers.iter().map(|row| row.5).sum();
        assert_eq!(report.shots_dropped, dropped);
        // Five shots do not always fit the demo model's context.
        assert_eq!(dropped > 0, source.shots == 5, "{source:?}");
        n_of_200 += usize::from(answers.len() == 200);
    }
    assert_eq!(n_of_200, 4, "HellaSwag, and MMLU three times, have 200 questions");
}

/// Groups are weighted by questions; the table has every subject.
#[test]
fn mmlu_has_subjects_and_groups() {
    let dataset = plain(Task::Mmlu, "mmlu");
    let options = TaskOptions { limit: Some(30), seed: 3, ..TaskOptions::default() };
    let report = run(&DEMO, &dataset, &options);
    assert_eq!(report.figures.n, 30);
    assert_eq!(report.subjects.iter().map(|subject| subject.figures.n).sum::<usize>(), 30);
    assert_eq!(report.groups.len(), 4);
    for group in &report.groups {
        let subjects = report.subjects.iter().filter(|subject| subject.group == Some(group.group));
        let right: f64 = subjects.map(|subject| subject.figures.acc.value * subject.figures.n as f64).sum();
        assert!((group.figures.acc.value - right / group.figures.n as f64).abs() < 1e-12, "{group:?}");
        assert!(group.figures.acc_norm.is_none() && group.n_subjects <= 2);
    }
    let right = report.answers.iter().filter(|answer| answer.best() == dataset.questions[answer.index].gold);
    assert!((report.figures.acc.value - share(right.count(), &report)).abs() < 1e-12);
}

/// Without sharing, the sums are the same, and the token count equals the one that
/// sharing reports for separate contexts.
#[test]
fn sharing_changes_only_the_amount_of_work() {
    for (task, data) in [
        (Task::Hellaswag, "hellaswag-200.txt"),
        (Task::Mmlu, "mmlu"),
        (Task::Lambada, "lambada-60.jsonl"),
        (Task::Choices, "choices.jsonl"),
    ] {
        let dataset = plain(task, data);
        let options = |sharing| TaskOptions { limit: Some(12), seed: 1, sharing, ..TaskOptions::default() };
        let shared = run(&DEMO, &dataset, &options(Sharing::Shared));
        let apart = run(&DEMO, &dataset, &options(Sharing::Apart));
        assert_eq!(apart.cost.tokens, apart.cost.tokens_apart, "{task}");
        assert_eq!(shared.cost.tokens_apart, apart.cost.tokens_apart, "{task}");
        let gain = apart.cost.tokens as f64 / shared.cost.tokens as f64;
        let least = if task == Task::Lambada { 1.0 } else { 1.3 };
        assert!(gain >= least, "{task}: {gain}");
        for (a, b) in shared.answers.iter().zip(&apart.answers) {
            assert_eq!((a.index, a.best(), a.greedy), (b.index, b.best(), b.greedy));
            for (a, b) in a.logprobs.iter().zip(&b.logprobs) {
                assert!((a - b).abs() < TOLERANCE * a.abs().max(1.0), "{task}: {a}, {b}");
            }
        }
    }
}

/// One run measures shared and separate contexts: counts, times, and the difference of the
/// sums.
#[test]
fn a_measurement_covers_shared_and_separate_contexts() {
    let dataset = plain(Task::Hellaswag, "hellaswag-200.txt");
    let options = TaskOptions { limit: Some(12), sharing: Sharing::Measured, ..TaskOptions::default() };
    let report = run(&DEMO, &dataset, &options);
    let gain = report.cost.measured.unwrap();
    // The first batch warms up the device and is not counted.
    assert!(0 < gain.tokens_shared && gain.tokens_shared < report.cost.tokens, "{gain:?}");
    assert!(gain.tokens_apart < report.cost.tokens_apart, "{gain:?}");
    assert_eq!(gain.gain_of_tokens, gain.tokens_apart as f64 / gain.tokens_shared as f64);
    assert_eq!(gain.gain, gain.seconds_apart / gain.seconds_shared);
    assert!(gain.largest_difference < 1e-3, "{gain:?}");
}

/// For a context longer than the model's, lm-eval keeps the end.
#[test]
fn long_contexts_are_truncated_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.jsonl");
    let word = "once upon a time there was a little dog and ".repeat(80);
    let line = |context: &str| serde_json::json!({"context": context, "choices": ["it ran", "a", "the cat sat on the mat"], "answer": 0});
    let tail = "it began to rain and the dog";
    std::fs::write(&path, format!("{}\n{}\n", line(&format!("{word}{tail}")), line(tail))).unwrap();
    let dataset = Dataset::read(Task::Choices, &path, &Default::default()).unwrap();
    let report = run(&DEMO, &dataset, &TaskOptions::default());
    assert_eq!(report.n_truncated, 1);
    let tokenizer = DEMO.tokenizer().unwrap();
    let context = tokenizer.encode(&format!("{word}{tail}")).unwrap();
    for (i, found) in report.answers[0].logprobs.iter().enumerate() {
        let ending = tokenizer.encode(&dataset.questions[0].continuations[i]).unwrap();
        assert_eq!(report.answers[0].n_tokens[i], ending.len());
        // 512 inputs, and the last target, which is not an input.
        let all = [context.as_slice(), &ending].concat();
        let kept = &all[all.len() - 513..];
        let mut session = DEMO.session();
        let mut sum = 0.0;
        session
            .advance_each(&kept[..512], |row, logits| {
                if row >= 512 - ending.len() {
                    sum -= wgpt::negative_log_likelihood(logits, kept[row + 1])?;
                }
                Ok(())
            })
            .unwrap();
        assert!((found - sum).abs() < TOLERANCE * sum.abs().max(1.0), "{found}, not {sum}");
    }
    let short = run(&DEMO, &dataset, &TaskOptions { limit: Some(1), seed: 1, ..TaskOptions::default() });
    assert!(short.n_truncated <= 1 && short.figures.n == 1);
}
