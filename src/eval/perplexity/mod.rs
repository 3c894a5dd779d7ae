//! Perplexity of a model on a text, by the protocols in use.
//!
//! A text is one or several [`Document`]s; a [`Protocol`] cuts them into windows
//! and says which tokens are scored. [`evaluate`] runs the windows, several at a
//! time, and adds up the log-probabilities of the scored tokens: computed in f32
//! on the GPU, summed in f64.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use wgpt::Engine;
//! use wgpt::eval::perplexity::{Document, PerplexityOptions, Protocol, evaluate};
//!
//! # fn main() -> wgpt::Result<()> {
//! let engine = Engine::builder().model("path/to/gpt2").build()?;
//! let stories = ["Once upon a time ...", "One day ..."];
//! let documents = stories
//!     .iter()
//!     .map(|text| Document::new(engine.tokenizer()?, "stories", text))
//!     .collect::<wgpt::Result<Vec<_>>>()?;
//! let options = PerplexityOptions { protocol: Protocol::Segments, ..PerplexityOptions::default() };
//! let found = evaluate(&engine, &documents, &options, &mut |_| ControlFlow::Continue(()))?;
//! println!("{:?} +/- {:?}", found.report.perplexity, found.report.perplexity_stderr);
//! # Ok(())
//! # }
//! ```

mod document;
mod protocol;
mod report;
mod run;
mod windows;

use std::ops::ControlFlow;

pub use document::{Document, Extent, Split, join};
pub use protocol::{BosChoice, BosPolicy, Protocol};
pub use report::{PerplexityReport, TokenRecord, dominating};

use serde::{Deserialize, Serialize};

use crate::engine::{CancelFlag, Engine};
use crate::error::{Error, Result};
use protocol::Plan;
use report::Totals;
use run::Runner;
use windows::Window;
pub(super) use windows::hf as sliding_windows;

/// What is evaluated and how.
#[derive(Clone, Debug, Default)]
pub struct PerplexityOptions {
    /// How the text is cut and what is scored.
    pub protocol: Protocol,
    /// Tokens of a window: the engine's context by default, under protocol llama at
    /// most 512 of it.
    pub context: Option<usize>,
    /// Protocol hf: tokens from one window's start to the next; half the context by
    /// default. Smaller strides give each token more context and take longer.
    pub stride: Option<usize>,
    /// Protocol llama: whether the begin-of-text token is substituted.
    pub bos: BosChoice,
    /// The most windows (hf, llama) or documents (lm-eval, segments) to score, from
    /// the first on.
    pub limit: Option<usize>,
    /// Tokens that are run together: windows enter a batch until it holds so many.
    /// By default two of the engine's prefill chunks.
    pub batch_tokens: Option<usize>,
    /// Whether [`Evaluation::tokens`] is filled, at the cost of rank and best token
    /// of each row.
    pub tokens: bool,
    /// A flag that ends the evaluation, also within a window, with what is known by
    /// then.
    pub cancel: Option<CancelFlag>,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The figures.
    pub report: PerplexityReport,
    /// Every scored token in the order of the text, where the options ask for them.
    pub tokens: Vec<TokenRecord>,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerplexityProgress {
    /// Windows that are behind.
    pub windows_done: u64,
    /// Tokens that were scored.
    pub tokens_done: u64,
    /// Tokens to score in all.
    pub n_tokens: u64,
    /// The estimate so far.
    pub perplexity: Option<f64>,
}

impl PerplexityOptions {
    /// Checks what needs no model.
    ///
    /// # Errors
    /// [`Error::Input`] for an option of another protocol, and for a limit of 0.
    pub fn validate(&self) -> Result<()> {
        let protocol = self.protocol;
        if protocol != Protocol::Hf && self.stride.is_some() {
            return Err(Error::input(format!(
                "a stride belongs to protocol hf: the windows of protocol {protocol} do not overlap"
            )));
        }
        if protocol != Protocol::Llama && self.bos != BosChoice::Auto {
            return Err(Error::input(format!(
                "the begin-of-text token is a choice under protocol llama alone: protocol {protocol} says itself \
                 what is done with it"
            )));
        }
        if self.limit == Some(0) {
            return Err(Error::input("a limit of 0 leaves nothing to score"));
        }
        Ok(())
    }
}

/// Evaluates documents. The callback comes at the start and after each window; its
/// `Break` and the cancel flag end the evaluation early with what is known so far.
///
/// Under the protocols hf and llama each document is a stream of its own; a text in
/// several parts is joined before ([`join`]).
///
/// # Errors
/// [`Error::Input`] for no document, a document that is too short for the protocol,
/// a token outside the vocabulary, options that do not fit the protocol or the
/// model; errors of the device; [`Error::Cancelled`] before the first token was
/// scored.
pub fn evaluate(
    engine: &Engine,
    documents: &[Document],
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(PerplexityProgress) -> ControlFlow<()>,
) -> Result<Evaluation> {
    options.validate()?;
    let plan = Plan::new(engine, options)?;
    check(&plan, documents)?;
    let windows = || windows::all(&plan, documents, options.limit);
    let n_tokens = windows().map(|window| window.scored.len() as u64).sum();
    let batch_tokens = options.batch_tokens.unwrap_or(2 * engine.options().prefill_chunk);
    let mut runner = Runner::new(engine, documents, options);
    let mut sums = Sums::default();
    let mut pending = windows().peekable();
    let mut cancelled = progress(sums.progress(n_tokens)).is_break();
    while !cancelled && pending.peek().is_some() {
        let batch = next_batch(&mut pending, batch_tokens);
        match runner.run(&batch) {
            Err(Error::Cancelled) => cancelled = true,
            scores => {
                for (window, scores) in batch.iter().zip(scores?) {
                    sums.add(plan.protocol, window, &documents[window.document], &scores);
                    cancelled = progress(sums.progress(n_tokens)).is_break();
                    if cancelled {
                        break;
                    }
                }
            }
        }
    }
    if sums.totals.nlls.count() == 0 {
        return Err(Error::Cancelled);
    }
    let complete = sums.totals.nlls.count() == n_tokens;
    let report = sums.report(&plan, documents, options, complete);
    Ok(Evaluation { report, tokens: sums.records })
}

/// The most windows of a batch: the pages of so many contexts are in use at once.
const BATCH_WINDOWS_MAX: usize = 64;

fn next_batch(pending: &mut dyn Iterator<Item = Window>, n_tokens: usize) -> Vec<Window> {
    let mut batch = Vec::new();
    let mut sum = 0;
    while (sum < n_tokens || batch.is_empty()) && batch.len() < BATCH_WINDOWS_MAX {
        let Some(window) = pending.next() else { break };
        sum += window.n_context() + window.scored.len();
        batch.push(window);
    }
    batch
}

/// Refuses documents of which the protocol scores nothing.
fn check(plan: &Plan, documents: &[Document]) -> Result<()> {
    if documents.is_empty() {
        return Err(Error::input("there is no document to score: the text is empty"));
    }
    for (i, document) in documents.iter().enumerate() {
        let n_tokens = document.tokens.len();
        if windows::windows(plan, i, n_tokens).next().is_some() {
            continue;
        }
        let needed = match plan.protocol {
            Protocol::Hf => "protocol hf needs at least 2: the first is context".to_owned(),
            Protocol::Llama => format!(
                "protocol llama needs a whole window of {}: give more text or a smaller context",
                plan.context - usize::from(plan.bos.is_some())
            ),
            Protocol::LmEval | Protocol::Segments => format!("protocol {} needs at least 1", plan.protocol),
        };
        return Err(Error::input(format!(
            "{}: the text has {n_tokens} token{}, {needed}",
            document.name,
            if n_tokens == 1 { "" } else { "s" },
        )));
    }
    Ok(())
}

/// What was scored so far.
#[derive(Default)]
struct Sums {
    totals: Totals,
    windows: u64,
    records: Vec<TokenRecord>,
}

impl Sums {
    fn add(&mut self, protocol: Protocol, window: &Window, document: &Document, scores: &run::Scores) {
        for (i, &logprob) in window.scored.clone().zip(&scores.logprobs) {
            let mut extent = document.extents.get(i).copied().unwrap_or_default();
            if protocol == Protocol::LmEval {
                extent.n_words += if i == 0 { document.edge_words.0 } else { 0 };
                extent.n_words += if i + 1 == document.tokens.len() { document.edge_words.1 } else { 0 };
            }
            self.totals.add(logprob, extent);
        }
        self.windows += 1;
        self.records.extend(scores.details.iter().zip(window.scored.clone()).enumerate().map(
            |(nth, (score, index))| TokenRecord {
                document: window.document,
                index,
                position: window.n_context() + nth,
                token: document.tokens[index],
                logprob: score.logprob,
                rank: score.rank,
                best: score.best,
                best_logprob: score.best_logprob,
            },
        ));
    }

    fn progress(&self, n_tokens: u64) -> PerplexityProgress {
        let nlls = &self.totals.nlls;
        PerplexityProgress {
            windows_done: self.windows,
            tokens_done: nlls.count(),
            n_tokens,
            perplexity: nlls.perplexity(),
        }
    }

    fn report(
        &self,
        plan: &Plan,
        documents: &[Document],
        options: &PerplexityOptions,
        complete: bool,
    ) -> PerplexityReport {
        let nlls = &self.totals.nlls;
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        let measured = documents.iter().all(|document| !document.extents.is_empty());
        let bytes_scored = measured.then_some(self.totals.n_bytes);
        let words_scored = measured.then_some(self.totals.n_words);
        let bits_per_byte = finite(self.totals.bits_per(bytes_scored));
        let bits_per_word = finite(self.totals.bits_per(words_scored));
        PerplexityReport {
            protocol: plan.protocol,
            context: plan.context,
            stride: plan.stride,
            bos: plan.bos_policy(),
            bos_token: plan.bos,
            n_documents: documents.len(),
            n_tokens: documents.iter().map(|document| document.tokens.len()).sum(),
            limit: options.limit,
            complete,
            windows_scored: self.windows,
            tokens_scored: nlls.count(),
            bytes_scored,
            words_scored,
            nll: finite(nlls.mean()),
            nll_stderr: nlls.standard_error(),
            perplexity: finite(nlls.perplexity()),
            perplexity_stderr: finite(nlls.perplexity_standard_error()),
            bits_per_byte,
            bits_per_word,
            byte_perplexity: finite(bits_per_byte.map(f64::exp2)),
            word_perplexity: finite(bits_per_word.map(f64::exp2)),
        }
    }
}
