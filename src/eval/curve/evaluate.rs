//! Losses of a run's checkpoints on texts.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{CheckpointPath, CurvePoint};
use crate::engine::{CancelFlag, Engine, ModelFiles};
use crate::error::{Error, Result};
use crate::eval::compare::check_same_tokens;
use crate::eval::perplexity::{self, Document, PerplexityOptions, Protocol};
use crate::gpu::Gpu;
use crate::model::{LoadProgress, ModelOptions};

/// The texts, as tokens of the models' tokenizer; at least one of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct CurveTexts<'a> {
    /// Text that the run trained on.
    pub train: Option<&'a [u32]>,
    /// Text that it did not see.
    pub validation: Option<&'a [u32]>,
}

/// How checkpoints are evaluated.
#[derive(Clone, Debug, Default)]
pub struct CurveOptions {
    /// Tokens from one window's start to the next; half the context by default.
    pub stride: Option<usize>,
    /// A flag that ends the evaluation, also within a checkpoint, with the
    /// checkpoints that are known by then.
    pub cancel: Option<CancelFlag>,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurveEvaluation {
    /// How the texts were scored: that of [`perplexity::evaluate`].
    pub protocol: &'static str,
    /// Length of a window.
    pub context: usize,
    /// Tokens from one window's start to the next.
    pub stride: usize,
    /// Whether a begin-of-text token is put in front.
    pub bos: bool,
    /// Tokens of the training text that each checkpoint was scored on.
    pub train_tokens_scored: u64,
    /// The same of the validation text.
    pub validation_tokens_scored: u64,
    /// Parameters of the model.
    pub n_parameters: u64,
    /// Whether all checkpoints were evaluated; false for a cancelled evaluation.
    pub complete: bool,
    /// Losses of the checkpoints, by rising step.
    pub points: Vec<CurvePoint>,
}

/// How far an evaluation is.
#[derive(Clone, Copy)]
pub struct CurveProgress<'a> {
    /// Checkpoints that are behind.
    pub checkpoints_done: usize,
    /// Checkpoints in all.
    pub n_checkpoints: usize,
    /// The step of the checkpoint at hand.
    pub step: u64,
    /// What is being done with it.
    pub stage: CurveStage<'a>,
}

/// What is being done with a checkpoint.
#[derive(Clone, Copy)]
pub enum CurveStage<'a> {
    /// It is being loaded.
    Load(LoadProgress),
    /// It is loaded; it goes when its losses are known.
    Loaded(&'a Engine),
    /// It is being scored.
    Score {
        /// Tokens that are behind, of both texts.
        tokens_done: usize,
        /// Tokens of both texts.
        n_tokens: usize,
    },
    /// Its losses are known.
    Done(CurvePoint),
}

/// The callback of [`evaluate`]; its `Break` cancels.
pub type CurveProgressFn<'f> = dyn FnMut(CurveProgress<'_>) -> ControlFlow<()> + 'f;

/// Evaluates checkpoints, one after the other, on one device: mean negative
/// log-likelihoods in nats a token, in sliding windows as [`perplexity::evaluate`].
///
/// # Errors
/// [`Error::Input`] for no checkpoint, no text, what [`perplexity::evaluate`] refuses,
/// and for checkpoints whose vocabulary, tokenizer or context differ from the first
/// one's; those of opening and loading a model; [`Error::Cancelled`] before the first
/// checkpoint was evaluated. An unacceptable input is reported with the step.
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
            "there is no text to evaluate checkpoints on: training, validation or both",
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
                "step {step}: its context has {} positions, that of the first checkpoint {}: they are not of one run",
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

/// What the checkpoints share.
struct Run<'a> {
    texts: CurveTexts<'a>,
    gpu: &'a Arc<Gpu>,
    model: &'a ModelOptions,
    options: &'a CurveOptions,
    first: ModelFiles,
}

/// One text's score under one checkpoint.
#[derive(Clone, Copy)]
struct TextScore {
    protocol: &'static str,
    context: usize,
    stride: usize,
    bos: bool,
    tokens_scored: u64,
    nll: f64,
}

/// One checkpoint's scores.
struct Scored {
    train: Option<TextScore>,
    validation: Option<TextScore>,
    /// The one or the other.
    any: TextScore,
    n_parameters: u64,
}

impl Scored {
    fn point(&self, step: u64) -> CurvePoint {
        let loss = |score: Option<TextScore>| score.map(|score| score.nll);
        CurvePoint { step, tokens: None, train: loss(self.train), validation: loss(self.validation) }
    }

    /// A result without points.
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
        let n_parameters = files.config().n_parameters();
        let load = &mut |load| report(CurveStage::Load(load));
        let engine = Engine::load(files, Arc::clone(self.gpu), self.model, load)?;
        if report(CurveStage::Loaded(&engine)).is_break() {
            return Err(Error::Cancelled);
        }
        let texts = [self.texts.train, self.texts.validation];
        // All but a text's first token are scored.
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

/// One text under one checkpoint: the only place that knows how texts are scored.
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
    // Half a text is no point of a curve.
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
