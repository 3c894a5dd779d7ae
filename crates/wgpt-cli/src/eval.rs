//! `wgpt eval`: tasks with known answers.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;
use wgpt_eval::tasks::{
    Answer, Convention, DataOptions, Dataset, Sharing, Task, TaskOptions, TaskProgress, TaskReport, evaluate,
};

use super::eval_output::text;
use super::exit::Outcome;
use super::interrupt;
use super::model_args::ModelArgs;
use super::output::note;
use super::progress::Count;
use super::results::ReportArgs;
use super::run_info::RunInfo;

/// Ask a model questions with known answers: HellaSwag, MMLU, LAMBADA, or your own
///
/// Words and tokenizes prompts as lm-evaluation-harness 0.4 or llm.c does. acc picks the
/// ending with the largest sum of log-probabilities. acc_norm first divides each sum by
/// its ending's length, in characters (lm-eval) or tokens (llmc). LAMBADA counts the words
/// that greedy decoding would have written. Ctrl-C prints the results so far.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Data:
  hellaswag  the published jsonl (activity_label, ctx_a, ctx_b, ctx, endings, label), or six
             lines per question: context, number of the right ending, four endings; this
             text is not changed
  mmlu       a folder with test/SUBJECT_test.csv and, for shots, dev/SUBJECT_dev.csv; with or
             without a header; answers 0 to 3 or A to D
  lambada    {\"text\": ...} lines; the model predicts the last word
  choices    {\"context\": ..., \"choices\": [...], \"answer\": number or letter} lines

Examples:
  wgpt eval hellaswag hellaswag_val.jsonl -m ./gpt2
  wgpt eval hellaswag hellaswag_val.jsonl -m ./gpt2 --convention llmc --limit 1000
  wgpt eval mmlu ./mmlu -m ./gpt2 --shots 5 --resume mmlu.json
  wgpt eval lambada lambada_test.jsonl -m ./gpt2 --json
  wgpt eval choices questions.jsonl")]
pub struct Args {
    /// Task
    #[arg(value_name = "TASK", value_enum)]
    task: TaskName,
    /// Questions: a file, or for mmlu a folder
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Convention for wording, tokenization and length normalization
    #[arg(long, value_enum, default_value = "lm-eval")]
    convention: ConventionName,
    /// Answered questions before each question: for mmlu the first N of dev/, otherwise
    /// of --shots-file. If they do not fit the context, the first ones are left out
    #[arg(long, value_name = "N", default_value_t = 0)]
    shots: usize,
    /// File with the shots of hellaswag or choices, in the task's format
    #[arg(long, value_name = "FILE")]
    shots_file: Option<PathBuf>,
    /// Ask only N of the questions, drawn at random
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seed for drawing the questions of --limit; a larger limit includes the questions
    /// of a smaller one
    #[arg(long, alias = "seed", value_name = "N", default_value_t = 0)]
    limit_seed: u64,
    /// Save the answers in FILE, and resume from the answers in it
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Compute the context again for each ending, to measure how much sharing saves
    #[arg(long, conflicts_with = "measure_sharing")]
    no_share: bool,
    /// Run every batch both with and without shared contexts, and compare the times
    #[arg(long)]
    measure_sharing: bool,
    /// Add each question's log-probabilities to the JSON
    #[arg(long, requires = "json")]
    answers: bool,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TaskName {
    Hellaswag,
    Mmlu,
    Lambada,
    Choices,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ConventionName {
    LmEval,
    Llmc,
}

impl From<TaskName> for Task {
    fn from(name: TaskName) -> Self {
        match name {
            TaskName::Hellaswag => Task::Hellaswag,
            TaskName::Mmlu => Task::Mmlu,
            TaskName::Lambada => Task::Lambada,
            TaskName::Choices => Task::Choices,
        }
    }
}

impl From<ConventionName> for Convention {
    fn from(name: ConventionName) -> Self {
        match name {
            ConventionName::LmEval => Convention::LmEval,
            ConventionName::Llmc => Convention::Llmc,
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    result: &'a TaskReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<Vec<AnswerRow<'a>>>,
    #[serde(flatten)]
    run: RunInfo,
}

/// A question's answer with the right one.
#[derive(Serialize)]
struct AnswerRow<'a> {
    line: usize,
    subject: &'a str,
    gold: usize,
    predicted: usize,
    predicted_norm: usize,
    #[serde(flatten)]
    answer: &'a Answer,
}

/// Runs `wgpt eval`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let cancel = interrupt::flag();
    let files = args.model.open_files()?;
    // Fails before the slow start of the GPU if there is no tokenizer, as for random
    // weights, or if the data are invalid.
    files.tokenizer()?;
    let options = DataOptions {
        convention: args.convention.into(),
        shots: args.shots,
        shots_file: args.shots_file.clone(),
    };
    let dataset = Dataset::read(args.task.into(), &args.data, &options)?;
    let read = [Some(&args.data), args.shots_file.as_ref(), args.resume.as_ref()];
    let mut sink = args.report.open(Some(&files), read.into_iter().flatten().map(PathBuf::as_path))?;
    let engine = args.model.load(files, &cancel)?;
    let options = TaskOptions {
        limit: args.limit,
        seed: args.limit_seed,
        sharing: match (args.no_share, args.measure_sharing) {
            (true, _) => Sharing::Apart,
            (_, true) => Sharing::Measured,
            _ => Sharing::Shared,
        },
        resume: args.resume.clone(),
        cancel: Some(cancel),
    };
    let mut count = Count::new("questions");
    let mut progress = |state: TaskProgress| {
        show(&mut count, state);
        ControlFlow::Continue(())
    };
    let result = evaluate(&engine, &dataset, &options, &mut progress)?;
    drop(count);
    if args.report.form.json {
        let answers = args.answers.then(|| rows(&dataset, &result));
        sink.print_json(&Report { result: &result, answers, run: RunInfo::new(&engine) })?;
    } else {
        sink.print(&text(&result))?;
    }
    sink.finish()?;
    if result.complete {
        return Ok(Outcome::Done);
    }
    note("interrupted: the figures cover only the questions that were answered");
    Ok(Outcome::Interrupted)
}

fn show(count: &mut Count, state: TaskProgress) {
    let norm = state.acc_norm.map_or_else(String::new, |norm| format!(", acc_norm {norm:.4}"));
    count.set_total(state.total as u64, state.resumed as u64);
    count.set(state.done as u64, &format!("acc {:.4}{norm}", state.acc));
}

fn rows<'a>(dataset: &'a Dataset, result: &'a TaskReport) -> Vec<AnswerRow<'a>> {
    let row = |answer: &'a Answer| {
        let question = &dataset.questions[answer.index];
        AnswerRow {
            line: question.line,
            subject: &dataset.subjects[question.subject].name,
            gold: question.gold,
            predicted: answer.best(),
            predicted_norm: answer.best_normalized(question, dataset.convention),
            answer,
        }
    };
    result.answers.iter().map(row).collect()
}
