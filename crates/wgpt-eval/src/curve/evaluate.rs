//! Losses of a training run's checkpoints on texts.
//!
//! Checkpoints are loaded one after the other onto one device, so a run of any length needs the
//! memory of only one model.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{CheckpointPath, CurvePoint};
use crate::compare::check_same_tokens;
use crate::perplexity::{self, Document, PerplexityOptions, Protocol};
use wgpt::{CancelFlag, Engine, Error, Gpu, LoadProgress, ModelFiles, ModelOptions, Result};

/// Texts as tokens of the models' tokenizer; at least one must be given.
#[derive(Clone, Copy, Debug, Default)]
pub struct CurveTexts<'a> {
    /// Text that the run trained on.
    pub train: Option<&'a [u32]>,
    /// Text that the run did not see.
    pub validation: Option<&'a [u32]>,
}

/// Options of an evaluation of checkpoints.
#[derive(Clone, Debug, Default)]
pub struct CurveOptions {
    /// Tokens from the start of one window to the start of the next. The default is half
    /// the context.
    pub stride: Option<usize>,
    /// Flag that ends the evaluation, even within a checkpoint. The result then contains
    /// the checkpoints completed so far.
    pub cancel: Option<CancelFlag>,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurveEvaluation {
    /// Protocol by which [`perplexity::evaluate`] scored the texts.
    pub protocol: &'static str,
    /// Window length in tokens.
    pub context: usize,
    /// Tokens from the start of one window to the start of the next.
    pub stride: usize,
    /// Whether a begin-of-text token precedes the text.
    pub bos: bool,
    /// Tokens of the training text on which each checkpoint was scored.
    pub train_tokens_scored: u64,
    /// Tokens of the validation text on which each checkpoint was scored.
    pub validation_tokens_scored: u64,
    /// Number of parameters of the model.
    pub n_parameters: u64,
    /// Whether all checkpoints were evaluated; false if the evaluation was cancelled.
    pub complete: bool,
    /// Losses of the checkpoints in ascending order of steps.
    pub points: Vec<CurvePoint>,
}

/// Progress of an evaluation.
#[derive(Clone, Copy)]
pub struct CurveProgress<'a> {
    /// Number of checkpoints completed.
    pub checkpoints_done: usize,
    /// Total number of checkpoints.
    pub n_checkpoints: usize,
    /// Step of the current checkpoint.
    pub step: u64,
    /// Stage of the current checkpoint.
    pub stage: CurveStage<'a>,
}

/// Stage of the evaluation of a checkpoint.
#[derive(Clone, Copy)]
pub enum CurveStage<'a> {
    /// The checkpoint is being loaded.
    Load(LoadProgress),
    /// The checkpoint is loaded. It is dropped when its losses are known.
    Loaded(&'a Engine),
    /// The checkpoint is being scored.
    Score {
        /// Tokens of both texts processed so far.
        tokens_done: usize,
        /// Total tokens of both texts.
        n_tokens: usize,
    },
    /// The losses of the checkpoint are known.
    Done(CurvePoint),
}

/// Callback of [`evaluate`]; its `Break` cancels the evaluation.
pub type CurveProgressFn<'f> = dyn FnMut(CurveProgress<'_>) -> ControlFlow<()> + 'f;

/// Evaluates checkpoints one by one on one device. Computes mean negative log-likelihoods
/// in nats per token, in sliding windows as in [`perplexity::evaluate`].
///
/// # Errors
/// [`Error::Input`] for no checkpoint, for no text, for input that
/// [`perplexity::evaluate`] refuses, and for a checkpoint whose vocabulary, tokenizer or
/// context differs from the first one's; errors of opening and loading a model;
/// [`Error::Cancelled`] before the first checkpoint was evaluated. An input error of a
/// checkpoint names its step.
pub fn evaluate(
    checkpoints: &[CheckpointPath],
    texts: CurveTexts<'_>,
    gpu: &Arc<Gpu>,
    model: &ModelOptions,
    options: &CurveOptions,
    progress: &mut CurveProgressFn<'_>,
) -> Result<CurveEvaluation> {
    let first =
        checkpoints.first().ok_or_else(|| Error::input("there is no checkpoint to evaluate"))?.open()?;
    if texts.train.is_none() && texts.validation.is_none() {
        return Err(Error::input(
            "there is no text to evaluate checkpoints on: give a training text, a validation text or both",
        ));
    }
    let run = Run { texts, gpu, model, options, first };
    let mut result: Option<CurveEvaluation> = None;
    for (checkpoints_done, checkpoint) in checkpoints.iter().enumerate() {
        let (step, n_checkpoints) = (checkpoint.step, checkpoints.len());
        let mut report = |stage: CurveStage<'_>| {
            let told = progress(CurveProgress { checkpoints_done, n_checkpoints, step, stage });
            let raised = options.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
            if raised { ControlFlow::Break(()) } else { told }
        };
        let scored = match run.score(checkpoint, &mut report) {
            Ok(scored) => scored,
            Err(Error::Cancelled) => break,
            Err(Error::Input(message)) => return Err(Error::input(format!("step {step}: {message}"))),
            Err(error) => return Err(error),
        };
        let point = scored.point(step);
        let all = result.get_or_insert_with(|| scored.header());
        if scored.any.context != all.context {
            return Err(Error::input(format!(
                "step {step}: the checkpoint's context has {} positions, but the first checkpoint's has {}: \
                 give checkpoints of one run",
                scored.any.context, all.context
            )));
        }
        all.points.push(point);
        all.complete = all.points.len() == n_checkpoints;
        if report(CurveStage::Done(point)).is_break() {
            break;
        }
    }
    result.ok_or(Error::Cancelled)
}

/// Inputs that all checkpoints share.
struct Run<'a> {
    texts: CurveTexts<'a>,
    gpu: &'a Arc<Gpu>,
    model: &'a ModelOptions,
    options: &'a CurveOptions,
    first: ModelFiles,
}

/// Score of one text under one checkpoint.
#[derive(Clone, Copy)]
struct TextScore {
    protocol: &'static str,
    context: usize,
    stride: usize,
    bos: bool,
    tokens_scored: u64,
    nll: f64,
}

/// Scores of one checkpoint.
struct Scored {
    train: Option<TextScore>,
    validation: Option<TextScore>,
    /// Either of the two scores, for the settings that they share.
    any: TextScore,
    n_parameters: u64,
}

impl Scored {
    fn point(&self, step: u64) -> CurvePoint {
        let loss = |score: Option<TextScore>| score.map(|score| score.nll);
        CurvePoint { step, tokens: None, train: loss(self.train), validation: loss(self.validation) }
    }

    /// Returns a result without points.
    fn header(&self) -> CurveEvaluation {
        let count = |score: Option<TextScore>| score.map_or(0, |score| score.tokens_scored);
        CurveEvaluation {
            protocol: self.any.protocol,
            context: self.any.context,
            stride: self.any.stride,
            bos: self.any.bos,
            train_tokens_scored: count(self.train),
            validation_tokens_scored: count(self.validation),
            n_parameters: self.n_parameters,
            complete: false,
            points: Vec::new(),
        }
    }
}

impl Run<'_> {
    /// Loads a checkpoint and scores the texts.
    fn score(
        &self,
        checkpoint: &CheckpointPath,
        report: &mut dyn FnMut(CurveStage<'_>) -> ControlFlow<()>,
    ) -> Result<Scored> {
        let files = checkpoint.open()?;
        check_same_tokens(&self.first, &files)?;
        let n_parameters = files.n_parameters();
        let load = &mut |load| report(CurveStage::Load(load));
        let engine = Engine::load(files, Arc::clone(self.gpu), self.model, load)?;
        if report(CurveStage::Loaded(&engine)).is_break() {
            return Err(Error::Cancelled);
        }
        let texts = [self.texts.train, self.texts.validation];
        // All tokens of a text except its first are scored.
        let n_tokens = texts.iter().flatten().map(|text| text.len().saturating_sub(1)).sum();
        let mut done = 0;
        let mut one = |text: Option<&[u32]>| -> Result<Option<TextScore>> {
            let Some(text) = text else { return Ok(None) };
            let report = &mut |tokens| report(CurveStage::Score { tokens_done: done + tokens, n_tokens });
            let scored = score_text(&engine, text, self.options, report)?;
            done += text.len() - 1;
            Ok(Some(scored))
        };
        let (train, validation) = (one(self.texts.train)?, one(self.texts.validation)?);
        let any = train.or(validation).ok_or(Error::Cancelled)?;
        Ok(Scored { train, validation, any, n_parameters })
    }
}

/// Scores one text under one checkpoint. Only this function decides how texts are scored.
fn score_text(
    engine: &Engine,
    text: &[u32],
    options: &CurveOptions,
    report: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<TextScore> {
    let options = PerplexityOptions {
        protocol: Protocol::Hf,
        stride: options.stride,
        cancel: options.cancel.clone(),
        ..PerplexityOptions::default()
    };
    let document = Document::from_tokens("text", text.to_vec());
    let scored = perplexity::evaluate(engine, &[document], &options, &mut |state| {
        report(usize::try_from(state.tokens_done).unwrap_or(usize::MAX))
    })?;
    let scored = scored.report;
    // A score of half a text must not become a point of the curve.
    let nll = scored.nll.filter(|_| scored.complete).ok_or(Error::Cancelled)?;
    Ok(TextScore {
        protocol: scored.protocol.name(),
        context: scored.context,
        stride: scored.stride,
        bos: scored.bos_token.is_some(),
        tokens_scored: scored.tokens_scored,
        nll,
    })
}
