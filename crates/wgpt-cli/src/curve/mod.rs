//! `wgpt curve`: losses of a training run.

mod output;
mod picture;
mod score;

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use wgpt::Error;
use wgpt_eval::curve::{Curve, find_checkpoints, read_log, sort_checkpoints};

use super::exit::Outcome;
use super::model_args::RunArgs;
use super::output::note;
use super::results::ReportArgs;
use crate::new_file::{check_distinct, create_distinct};
use output::Report;
use picture::Axis;

/// Show the losses of a training run and a verdict on them
///
/// Reads a log, or evaluates checkpoints on two texts: one that the run trained on and
/// one that it did not see (protocol hf, as in wgpt perplexity). The name of a checkpoint
/// must end in its step, as in checkpoint-500; otherwise write STEP=PATH. A directory
/// stands for all checkpoints in it.
///
/// Losses in a log are in nats per token. A log is JSON (an array of entries,
/// transformers' trainer_state.json, or the output of --json), JSON lines, or CSV with a
/// header. An entry has step (iter), train (loss, train_loss) or validation (val_loss,
/// eval_loss) or both, and optionally tokens (num_input_tokens_seen).
///
/// The verdict is one of: diverged; too few points (fewer than 4); overfitting from step
/// N on (the validation loss rises from its minimum by more than 4 standard deviations of
/// its noise and 0.5 % while the training loss falls; with fewer than 8 points, it rises
/// at each of two or more points in a row, to 2 % above its minimum); rising; still
/// falling (by more than 1 % within the last quarter of the steps); healthy. Spikes are
/// listed separately. The documentation of wgpt_eval::curve::Diagnosis has the exact
/// rule.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt curve out/ --train train.txt --validation held-out.txt --plot curve.svg
  wgpt curve out/ 1800=out/model.safetensors --log out/log.json --validation held-out.txt --x tokens
  wgpt curve trainer_state.json --tokens-per-step 4096 --n-parameters 124e6
  wgpt curve out/ --validation held-out.txt --json -o curve.json
  wgpt curve curve.json --plot curve.svg         draws the result again")]
pub struct Args {
    /// Checkpoints (directories, safetensors files, STEP=PATH), or a log of losses
    #[arg(required = true, value_name = "CHECKPOINT|LOG")]
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    inputs: Vec<PathBuf>,
    /// UTF-8 text that the run trained on
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
    /// UTF-8 text that the run did not see
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,
    /// The run's log; its lines are drawn below those of the checkpoints, and it gives
    /// the tokens per step
    #[arg(long, value_name = "LOG")]
    log: Option<PathBuf>,
    /// Also draw the results as an SVG picture and write it to FILE
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Title of the picture
    #[arg(long, value_name = "TEXT", default_value = "Training curve")]
    title: String,
    /// Unit of the picture's x axis
    #[arg(long, value_enum, default_value = "step")]
    x: Axis,
    /// Tokens per step: batch size times sequence length [default: from the log]
    #[arg(long, value_name = "N", value_parser = positive)]
    tokens_per_step: Option<f64>,
    /// Parameters of the model [default: from the checkpoints or the log]
    #[arg(long, value_name = "N", value_parser = positive)]
    n_parameters: Option<f64>,
    /// Tokens from one window to the next [default: half the context]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Score only the first N tokens of each text
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    run: RunArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    let expected = || "expected a number above 0".to_owned();
    let value: f64 = text.parse().map_err(|_| expected())?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err(expected()) }
}

/// The kind of the inputs.
enum Source {
    Checkpoints(Vec<wgpt_eval::curve::CheckpointPath>),
    Log(Curve),
}

/// Runs `wgpt curve`.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let source = source(args)?;
    let log = args.log.as_deref().map(read_log).transpose()?;
    if args.x == Axis::Tokens {
        // Fails before minutes of evaluation.
        let known = args.tokens_per_step.is_some()
            || log.as_ref().is_some_and(|log| log.tokens_per_step.is_some())
            || matches!(&source, Source::Log(curve) if curve.tokens_per_step.is_some());
        if !known {
            let message = "--x tokens: the number of tokens per step is unknown: give --tokens-per-step, or \
                           a log with tokens";
            return Err(Error::Input(message.into()).into());
        }
    }
    // Fails before the evaluation if the picture cannot be written.
    let read = || {
        let texts = [&args.log, &args.train, &args.validation];
        args.inputs.iter().chain(texts.into_iter().flatten()).map(PathBuf::as_path)
    };
    let create = |path: &Path| create_distinct(path, read());
    check_distinct(&[("--plot", args.plot.as_deref()), ("--output", args.report.file.output.as_deref())])?;
    let plot = args.plot.as_deref().map(create).transpose()?;
    let mut sink = args.report.open(None, read())?;
    let (mut curve, evaluation) = match source {
        Source::Log(curve) => (curve, None),
        Source::Checkpoints(checkpoints) => {
            let (curve, evaluation) = score::evaluate(args, &checkpoints)?;
            (curve, Some(evaluation))
        }
    };
    curve.tokens_per_step = args.tokens_per_step.or(curve.tokens_per_step);
    curve.n_parameters = args.n_parameters.map(|n| n as u64).or(curve.n_parameters);
    let complete = evaluation.as_ref().is_none_or(|evaluation| evaluation.complete());
    let report = Report::new(curve, log, evaluation);
    // Prints the figures first: a curve without a finite loss has a verdict but no
    // picture.
    if args.report.form.json {
        sink.print_json(&report)?;
    } else {
        sink.print(&output::text(&report))?;
    }
    sink.finish()?;
    if let Some(mut file) = plot {
        file.write(picture::svg(&report, &args.title, args.x)?.as_bytes())?;
        file.finish()?;
    }
    if complete {
        return Ok(Outcome::Done);
    }
    note("interrupted: the curve ends with the last checkpoint that was evaluated");
    Ok(Outcome::Interrupted)
}

fn source(args: &Args) -> Result<Source, Error> {
    let (mut checkpoints, mut logs) = (Vec::new(), Vec::new());
    for input in &args.inputs {
        let (step, path) = with_step(input);
        let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
        if !path.exists() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(Error::Io { action: "read", path, source });
        }
        if step.is_none() && !path.is_dir() && !is_weights {
            logs.push(path);
            continue;
        }
        let found = find_checkpoints(&path, step)?;
        checkpoints.extend(found.checkpoints);
        if let Some(path) = found.left_out.filter(|path| !named(args, path)) {
            note(&format!(
                "note: {} is left out, because its name has no step: add it as STEP={0}",
                path.display()
            ));
        }
    }
    let has_texts = args.train.is_some() || args.validation.is_some();
    let wrong = |message: &str| Err(Error::Input(message.into()));
    match (checkpoints.is_empty(), logs.is_empty()) {
        (false, false) => {
            wrong("the inputs are both checkpoints and logs: give the log of the checkpoints' run with --log")
        }
        (false, true) if !has_texts => {
            wrong("checkpoints need a text to be evaluated on: give --train, --validation or both")
        }
        (false, true) => Ok(Source::Checkpoints(sort_checkpoints(checkpoints)?)),
        (true, _) if has_texts => wrong(
            "--train and --validation are only for checkpoints: leave them out, because a log already has \
             losses",
        ),
        (true, _) => Ok(Source::Log(joined(&logs)?)),
    }
}

/// Joins the losses of all logs into one curve.
fn joined(logs: &[PathBuf]) -> Result<Curve, Error> {
    if let [only] = logs {
        return read_log(only);
    }
    let logs = logs.iter().map(|path| read_log(path)).collect::<Result<Vec<_>, _>>()?;
    let mut curve = Curve::new(logs.iter().flat_map(|log| log.points().iter().copied()))?;
    curve.tokens_per_step = curve.tokens_per_step.or(logs.iter().find_map(|log| log.tokens_per_step));
    curve.n_parameters = logs.iter().find_map(|log| log.n_parameters);
    Ok(curve)
}

/// Splits STEP=PATH into the step and the path. An existing path is not split, even if its
/// name contains `=`.
fn with_step(input: &Path) -> (Option<u64>, PathBuf) {
    let split = input.to_str().filter(|_| !input.exists()).and_then(|text| text.split_once('='));
    match split.and_then(|(step, path)| Some((step.parse().ok()?, path))) {
        Some((step, path)) => (Some(step), path.into()),
        None => (None, input.to_owned()),
    }
}

/// Returns whether an input, with or without its step, names this path.
fn named(args: &Args, path: &Path) -> bool {
    args.inputs.iter().any(|input| {
        let named = with_step(input).1;
        named.canonicalize().ok().is_some_and(|named| path.canonicalize().ok() == Some(named))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_start_with_a_step() {
        for (input, step, path) in [
            ("1800=out/model.safetensors", Some(1800), "out/model.safetensors"),
            ("out/checkpoint-5", None, "out/checkpoint-5"),
            ("lr=3=x", None, "lr=3=x"),
            ("5=a=b", Some(5), "a=b"),
        ] {
            assert_eq!(with_step(Path::new(input)), (step, PathBuf::from(path)), "{input}");
        }
    }

    #[test]
    fn numbers_must_be_above_zero() {
        assert_eq!((positive("4096"), positive("1.5e9")), (Ok(4096.0), Ok(1.5e9)));
        for text in ["0", "-1", "inf", "NaN", "x"] {
            assert!(positive(text).is_err(), "{text}");
        }
    }
}
