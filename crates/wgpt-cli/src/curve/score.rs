//! Computes the losses of checkpoints, with progress bars.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use wgpt::{Error, ModelFiles};
use wgpt_eval::curve::{
    CheckpointPath, Curve, CurveEvaluation, CurveOptions, CurvePoint, CurveStage, CurveTexts,
    evaluate as evaluate_all,
};

use super::Args;
use crate::digest::DataInfo;
use crate::interrupt;
use crate::output::plural;
use crate::progress::Bar;
use crate::prompt::read_text;
use crate::run_info::RunInfo;

/// The evaluated texts and the settings, as part of the JSON report.
#[derive(Debug, Serialize)]
pub struct Evaluation {
    #[serde(flatten)]
    how: How,
    checkpoints: Vec<CheckpointInfo>,
    train_data: Option<DataInfo>,
    validation_data: Option<DataInfo>,
    /// Setup of the first checkpoint.
    #[serde(flatten)]
    run: RunInfo,
}

/// [`CurveEvaluation`] without its points.
#[derive(Debug, Serialize)]
struct How {
    protocol: &'static str,
    context: usize,
    stride: usize,
    bos: bool,
    train_tokens_scored: u64,
    validation_tokens_scored: u64,
    complete: bool,
}

#[derive(Debug, Serialize)]
struct CheckpointInfo {
    step: u64,
    path: String,
    sha256: String,
}

impl Evaluation {
    /// Whether all checkpoints were evaluated.
    pub fn complete(&self) -> bool {
        self.how.complete
    }

    /// Returns the lines that explain how the losses were computed.
    pub fn lines(&self) -> [(&'static str, String); 2] {
        let How { protocol, context, stride, train_tokens_scored, validation_tokens_scored, .. } = &self.how;
        [
            (
                "tokens scored",
                format!("{train_tokens_scored} training, {validation_tokens_scored} validation"),
            ),
            (
                "protocol",
                format!("{protocol}, no begin-of-text token, context {context} tokens, stride {stride}"),
            ),
        ]
    }
}

/// A text and its tokens.
struct Text {
    info: DataInfo,
    tokens: Vec<u32>,
}

fn text(path: Option<&Path>, files: &ModelFiles, limit: Option<usize>) -> Result<Option<Text>, Error> {
    let Some(path) = path else { return Ok(None) };
    let text = read_text(path)?;
    let mut tokens = files.tokenizer()?.encode(&text)?;
    tokens.truncate(limit.unwrap_or(usize::MAX));
    if tokens.len() < 2 {
        let message = format!(
            "{}: {} to score, but scoring needs at least 2: give a longer text or a larger --limit",
            path.display(),
            plural(tokens.len(), "token")
        );
        return Err(Error::Input(message));
    }
    Ok(Some(Text { info: DataInfo::new(path, &text), tokens }))
}

/// Evaluates all checkpoints.
pub fn evaluate(args: &Args, checkpoints: &[CheckpointPath]) -> anyhow::Result<(Curve, Evaluation)> {
    let cancel = interrupt::flag();
    let Some(first) = checkpoints.first() else {
        return Err(Error::Input("there is no checkpoint to evaluate".into()).into());
    };
    let files = first.open()?;
    let train = text(args.train.as_deref(), &files, args.limit)?;
    let validation = text(args.validation.as_deref(), &files, args.limit)?;
    let texts = CurveTexts {
        train: train.as_ref().map(|text| &text.tokens[..]),
        validation: validation.as_ref().map(|text| &text.tokens[..]),
    };
    let gpu = args.run.open_gpu()?;
    let options = CurveOptions { stride: args.stride, cancel: Some(cancel) };
    let mut bar = CurveBar::default();
    let mut run = None;
    let result = evaluate_all(checkpoints, texts, &gpu, &args.run.model_options(), &options, &mut |state| {
        if let (CurveStage::Loaded(engine), None) = (state.stage, &run) {
            run = Some(RunInfo::new(engine));
        }
        bar.update(state.checkpoints_done, state.n_checkpoints, state.step, &state.stage);
        ControlFlow::Continue(())
    })?;
    drop(bar);
    // A result has at least one checkpoint, which was loaded.
    let run = run.ok_or(Error::Cancelled)?;
    let mut curve = Curve::new(result.points.iter().copied())?;
    curve.n_parameters = Some(result.n_parameters);
    let evaluated = &checkpoints[..result.points.len()];
    let evaluation = Evaluation {
        how: how(&result),
        checkpoints: evaluated.iter().map(checkpoint_info).collect::<Result<_, Error>>()?,
        train_data: train.map(|text| text.info),
        validation_data: validation.map(|text| text.info),
        run,
    };
    Ok((curve, evaluation))
}

fn how(result: &CurveEvaluation) -> How {
    How {
        protocol: result.protocol,
        context: result.context,
        stride: result.stride,
        bos: result.bos,
        train_tokens_scored: result.train_tokens_scored,
        validation_tokens_scored: result.validation_tokens_scored,
        complete: result.complete,
    }
}

fn checkpoint_info(checkpoint: &CheckpointPath) -> Result<CheckpointInfo, Error> {
    let sha256 = checkpoint.open()?.checkpoint().sha256()?;
    Ok(CheckpointInfo { step: checkpoint.step, path: checkpoint.path.display().to_string(), sha256 })
}

/// One bar over all checkpoints, with [`UNITS`] units for each.
#[derive(Default)]
struct CurveBar {
    bar: Option<Bar>,
    last: Option<CurvePoint>,
}

const UNITS: u64 = 1000;

impl CurveBar {
    fn update(&mut self, done: usize, n: usize, step: u64, stage: &CurveStage<'_>) {
        let bar = self.bar.get_or_insert_with(|| Bar::new(n as u64 * UNITS, "{wide_bar} {msg}, {eta} left"));
        let part = match stage {
            CurveStage::Load(_) | CurveStage::Loaded(_) => 0,
            CurveStage::Score { tokens_done, n_tokens } => {
                *tokens_done as u64 * UNITS / (*n_tokens as u64).max(1)
            }
            CurveStage::Done(point) => {
                self.last = Some(*point);
                UNITS
            }
        };
        let last = self.last.map_or_else(String::new, |point| {
            let loss = point.validation.or(point.train).unwrap_or(f64::NAN);
            format!(", loss {loss:.4} at step {}", point.step)
        });
        bar.set(done as u64 * UNITS + part, format!("checkpoint {} of {n}, step {step}{last}", done + 1));
    }
}
