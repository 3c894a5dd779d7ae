//! Perplexity of a model on a text, by several common protocols.
//!
//! A text is one or more [`Document`]s. A [`Protocol`] splits them into windows and
//! decides which tokens are scored. [`evaluate`] runs several windows at a time and adds
//! up the log-probabilities of the scored tokens. They are computed in f32 on the GPU and
//! summed in f64.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use wgpt::Engine;
//! use wgpt_eval::perplexity::{Document, PerplexityOptions, Protocol, evaluate};
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

use crate::plural;
use protocol::Plan;
use report::Totals;
use run::Runner;
use wgpt::{CancelFlag, Engine, Error, Result};
use windows::Window;
pub(super) use windows::hf as sliding_windows;

/// Options of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct PerplexityOptions {
    /// How the text is split and which tokens are scored.
    pub protocol: Protocol,
    /// Window length in tokens. The default is the engine's context, but at most 512
    /// under protocol llama.
    pub context: Option<usize>,
    /// Protocol hf: tokens from the start of one window to the start of the next. The
    /// default is half the context. A smaller stride gives each token more context and
    /// takes longer.
    pub stride: Option<usize>,
    /// Protocol llama: whether the begin-of-text token replaces the first token of each
    /// chunk.
    pub bos: BosChoice,
    /// Maximum number of windows (hf, llama) or documents (lm-eval, segments) to score,
    /// counted from the first.
    pub limit: Option<usize>,
    /// Number of tokens in a batch: windows join it until it contains at least this many.
    /// The default is two of the engine's prefill chunks.
    pub batch_tokens: Option<usize>,
    /// Whether to fill [`Evaluation::tokens`]. This also computes the rank and the best
    /// token of each row.
    pub tokens: bool,
    /// Flag that ends the evaluation, even within a window. The result then covers the
    /// tokens scored so far.
    pub cancel: Option<CancelFlag>,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The figures.
    pub report: PerplexityReport,
    /// Every scored token in text order, if [`PerplexityOptions::tokens`] is set.
    pub tokens: Vec<TokenRecord>,
}

/// Progress of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerplexityProgress {
    /// Number of windows scored.
    pub windows_done: u64,
    /// Number of tokens scored.
    pub tokens_done: u64,
    /// Number of tokens to score in total.
    pub n_tokens: u64,
    /// Perplexity of the tokens scored so far.
    pub perplexity: Option<f64>,
}

impl PerplexityOptions {
    /// Checks the options as far as possible without a model.
    ///
    /// # Errors
    /// [`Error::Input`] for an option of another protocol and for a limit of 0.
    pub fn validate(&self) -> Result<()> {
        let protocol = self.protocol;
        if protocol != Protocol::Hf && self.stride.is_some() {
            return Err(Error::input(format!(
                "only protocol hf takes a stride: protocol {protocol} defines how its windows move"
            )));
        }
        if protocol != Protocol::Llama && self.bos != BosChoice::Auto {
            return Err(Error::input(format!(
                "the begin-of-text token can be chosen only with protocol llama: protocol {protocol} defines \
                 its use"
            )));
        }
        if self.limit == Some(0) {
            return Err(Error::input("a limit of 0 leaves nothing to score: expected 1 or more"));
        }
        Ok(())
    }
}

/// Evaluates documents. The callback runs at the start and after each window. Its `Break`
/// or the cancel flag ends the evaluation early; the result then covers the tokens scored
/// so far.
///
/// Under protocols hf and llama each document is a separate stream. Join the parts of one
/// text beforehand with [`join`].
///
/// # Errors
/// [`Error::Input`] for no document, for a document that is too short for the protocol,
/// for a token outside the vocabulary, and for options that do not fit the protocol or
/// the model; errors of the device; [`Error::Cancelled`] before the first token was
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

/// Maximum windows per batch. The KV cache holds pages for all of them at the same time.
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

/// Returns an error for a document in which the protocol scores no token.
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
            Protocol::Hf => "protocol hf needs at least 2, because the first is only context".to_owned(),
            Protocol::Llama => format!(
                "protocol llama needs a whole window of {}: give more text or a smaller context",
                plan.context - usize::from(plan.bos.is_some())
            ),
            Protocol::LmEval | Protocol::Segments => format!("protocol {} needs at least 1", plan.protocol),
        };
        return Err(Error::input(format!(
            "{}: the text has {}, but {needed}",
            document.name,
            plural(n_tokens, "token"),
        )));
    }
    Ok(())
}

/// Results of the windows scored so far.
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
