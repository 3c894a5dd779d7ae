//! Comparison of two models, or of two precisions of one model, on the same text: how
//! much their predictions differ.
//!
//! Both models' logits are read back and compared row by row in f64. Equal vocabularies that
//! divide the text differently are refused.

mod rows;

use std::ops::ControlFlow;

use serde::Serialize;

use super::perplexity::sliding_windows;
use super::statistics::{MeanError, Moments, quantile};
use crate::plural;
use rows::{RowDifference, difference};
use wgpt::{CancelFlag, Engine, Error, ModelFiles, Result, Session};

/// Maximum bytes of one model's logits that are kept until the other model's logits are
/// computed.
const ROWS_BYTES_MAX: usize = 64 << 20;
/// Maximum rows per pass; more do not make a pass faster.
const ROWS_MAX: usize = 256;
/// Quantiles of the divergence in a report.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// Options of a comparison.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Tokens from the start of one window to the start of the next. The default is half
    /// the context.
    pub stride: Option<usize>,
    /// Number of tokens with the largest divergence to report.
    pub n_most_different: usize,
    /// Flag that ends the comparison, even within a window. The report then covers the
    /// tokens scored so far.
    pub cancel: Option<CancelFlag>,
}

impl Default for CompareOptions {
    fn default() -> Self {
        CompareOptions { stride: None, n_most_different: 10, cancel: None }
    }
}

/// Figures of one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModelFigures {
    /// Mean negative log-likelihood of the scored tokens, in nats.
    pub nll: MeanError,
    /// `exp` of the mean negative log-likelihood.
    pub perplexity: f64,
}

/// Kullback-Leibler divergence D(A || B) of the predicted distributions, in nats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// Mean over the scored tokens. Its standard error assumes that they are independent.
    pub mean: MeanError,
    /// Largest divergence of a token.
    pub max: f64,
    /// Quantiles 0.5, 0.9, 0.95, 0.99 and 0.999 as `(quantile, divergence)`.
    pub quantiles: Vec<(f64, f64)>,
}

/// A token for which the models' predictions differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenDifference {
    /// Index of the token in the text.
    pub position: usize,
    /// Id of the token in the text.
    pub token: u32,
    /// Log-probability of this token under A, in nats.
    pub logprob_a: f64,
    /// Log-probability of this token under B, in nats.
    pub logprob_b: f64,
    /// Divergence of the predictions for this token, in nats.
    pub kl: f64,
    /// Most probable token under A; among equals the lowest id.
    pub best_a: u32,
    /// Most probable token under B; among equals the lowest id.
    pub best_b: u32,
}

/// The result of [`compare`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompareReport {
    /// Always "hf": one stream of tokens in sliding windows, whose overlap is context.
    pub protocol: &'static str,
    /// Window length in tokens: the shorter of the two contexts.
    pub context: usize,
    /// Tokens from the start of one window to the start of the next.
    pub stride: usize,
    /// Whether a begin-of-text token precedes the text; always false for this protocol.
    pub bos: bool,
    /// Number of tokens in the text.
    pub n_tokens: usize,
    /// Whether the whole text was scored; false if the comparison was cancelled.
    pub complete: bool,
    /// Number of scored tokens.
    pub tokens_scored: u64,
    /// The first model.
    pub a: ModelFigures,
    /// The second model.
    pub b: ModelFigures,
    /// Mean difference of the negative log-likelihoods, B minus A, in nats. Differences are
    /// computed token by token, so the common difficulty of a token cancels.
    pub nll_difference: MeanError,
    /// Divergence of the predicted distributions.
    pub kl: Divergence,
    /// Fraction of the scored tokens for which both models have the same most probable
    /// token.
    pub top1_agreement: MeanError,
    /// Root mean square difference between the models' log-probabilities of the text's
    /// tokens, in nats.
    pub logprob_rms_difference: f64,
    /// Tokens with the largest divergence, the largest first.
    pub most_different: Vec<TokenDifference>,
}

/// Progress of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct CompareProgress {
    /// Tokens of the text processed so far.
    pub tokens_done: usize,
    /// Number of tokens in the text.
    pub n_tokens: usize,
    /// Mean divergence so far, in nats.
    pub mean_kl: Option<f64>,
}

/// Checks that two models use the same tokens: vocabularies of equal size and, if both
/// have a tokenizer, the same token for each id.
///
/// # Errors
/// [`Error::Input`] that names the difference; the tokenizer's error if a tokenizer is
/// damaged.
pub fn check_same_tokens(a: &ModelFiles, b: &ModelFiles) -> Result<()> {
    let (n_a, n_b) = (a.vocab_size(), b.vocab_size());
    if n_a != n_b {
        return Err(Error::input(format!(
            "the vocabularies differ: {} has {n_a} tokens, {} has {n_b}; only models with the same \
             vocabulary can be compared token by token",
            a.name(),
            b.name()
        )));
    }
    if !a.has_tokenizer() || !b.has_tokenizer() {
        return Ok(());
    }
    if let Some((id, in_a, in_b)) = a.tokenizer()?.first_difference(b.tokenizer()?) {
        let shown = |token: Option<String>| token.map_or("no token".to_owned(), |token| format!("{token:?}"));
        return Err(Error::input(format!(
            "the tokenizers differ: id {id} is {} in {} and {} in {}; only models with the same vocabulary \
             can be compared token by token",
            shown(in_a),
            a.name(),
            shown(in_b),
            b.name()
        )));
    }
    Ok(())
}

/// Returns the tokens of `text`. Both models' tokenizers must split it in the same way.
///
/// # Errors
/// The errors of [`check_same_tokens`]; [`Error::Input`] if the tokenizers share a
/// vocabulary but split the text differently; errors of a tokenizer.
pub fn shared_tokens(a: &ModelFiles, b: &ModelFiles, text: &str) -> Result<Vec<u32>> {
    check_same_tokens(a, b)?;
    let (tokens, others) = (a.tokenizer()?.encode(text)?, b.tokenizer()?.encode(text)?);
    if tokens == others {
        return Ok(tokens);
    }
    let at = tokens.iter().zip(&others).take_while(|(a, b)| a == b).count();
    Err(Error::input(format!(
        "the tokenizers of {} and {} share a vocabulary but split the text differently from token {at} on: \
         compare models with the same tokenizer",
        a.name(),
        b.name()
    )))
}

/// Compares two models on `tokens`, taken as one text in sliding windows as in
/// [`super::perplexity::evaluate`]. A `Break` from the callback or the cancel flag ends
/// the comparison early; the report then covers the tokens scored so far.
///
/// The logits of both models are read back as f32 and compared in f64, row by row. At
/// most 64 MiB of one model's logits are kept until the other model's are computed.
///
/// # Errors
/// [`Error::Input`] as for [`check_same_tokens`] and [`super::perplexity::evaluate`];
/// errors of the device; [`Error::Cancelled`] before the first token was scored.
pub fn compare(
    a: &Engine,
    b: &Engine,
    tokens: &[u32],
    options: &CompareOptions,
    progress: &mut dyn FnMut(CompareProgress) -> ControlFlow<()>,
) -> Result<CompareReport> {
    check_same_tokens(a.files(), b.files())?;
    let context = a.n_ctx().min(b.n_ctx());
    let stride = options.stride.unwrap_or((context / 2).max(1));
    if stride == 0 || stride > context {
        return Err(Error::input(format!(
            "stride {stride}: expected 1 to {context}, the length of the context"
        )));
    }
    if tokens.len() < 2 || context < 2 {
        return Err(Error::input(format!(
            "the text has {} and the context has {}: a comparison needs at least 2 of each",
            plural(tokens.len(), "token"),
            plural(context, "position")
        )));
    }
    let mut pair = Pair::new(a, b, options.cancel.as_ref());
    let mut sums = Sums { n_most_different: options.n_most_different, ..Sums::default() };
    let mut complete = false;
    for (before, scored) in sliding_windows(tokens.len(), context, stride) {
        let end = scored.end;
        match pair.window(tokens, before.start..end, scored.start, &mut sums) {
            Err(Error::Cancelled) => break,
            scored => scored?,
        }
        complete = end == tokens.len();
        let mean_kl = (sums.kl.count() > 0).then(|| sums.kl.result().mean);
        if progress(CompareProgress { tokens_done: end, n_tokens: tokens.len(), mean_kl }).is_break() {
            break;
        }
    }
    if sums.kl.count() == 0 {
        return Err(Error::Cancelled);
    }
    Ok(sums.report(context, stride, tokens.len(), complete))
}

/// Sessions of both models.
struct Pair {
    a: Session,
    b: Session,
    vocab_size: usize,
    /// Logits of A that are kept until B's are computed, `[rows, vocab_size]`.
    rows: Vec<f32>,
}

impl Pair {
    fn new(a: &Engine, b: &Engine, cancel: Option<&CancelFlag>) -> Self {
        let (mut session_a, mut session_b) = (a.session(), b.session());
        if let Some(flag) = cancel {
            session_a.set_cancel(flag.clone());
            session_b.set_cancel(flag.clone());
        }
        Pair { a: session_a, b: session_b, vocab_size: a.vocab_size(), rows: Vec::new() }
    }

    /// Adds the differences of one window to `sums`.
    fn window(
        &mut self,
        tokens: &[u32],
        window: std::ops::Range<usize>,
        first_scored: usize,
        sums: &mut Sums,
    ) -> Result<()> {
        // The logits after token i - 1 score token i.
        let context = &tokens[window.start..first_scored - 1];
        for session in [&mut self.a, &mut self.b] {
            session.truncate(0);
            if !context.is_empty() {
                session.prefill(context)?;
            }
        }
        let n_rows = (ROWS_BYTES_MAX / (4 * self.vocab_size)).clamp(1, ROWS_MAX);
        let mut position = first_scored;
        for piece in tokens[first_scored - 1..window.end - 1].chunks(n_rows) {
            let Pair { a, b, vocab_size, rows } = self;
            rows.clear();
            a.advance_each(piece, |_, logits| {
                rows.extend_from_slice(logits);
                Ok(())
            })?;
            b.advance_each(piece, |i, logits| {
                let target = tokens[position + i];
                let other = &rows[i * *vocab_size..][..*vocab_size];
                sums.add(position + i, target, &difference(other, logits, target)?);
                Ok(())
            })?;
            position += piece.len();
        }
        Ok(())
    }
}

/// Sums over the tokens so far.
#[derive(Default)]
struct Sums {
    nll_a: Moments,
    nll_b: Moments,
    nll_difference: Moments,
    kl: Moments,
    agreement: Moments,
    squares: f64,
    /// Divergence of every token, for the quantiles.
    all_kl: Vec<f64>,
    n_most_different: usize,
    /// In descending order of divergence.
    most_different: Vec<TokenDifference>,
}

impl Sums {
    fn add(&mut self, position: usize, token: u32, row: &RowDifference) {
        let RowDifference { logprob_a, logprob_b, kl, best_a, best_b } = *row;
        self.nll_a.add(-logprob_a);
        self.nll_b.add(-logprob_b);
        self.nll_difference.add(logprob_a - logprob_b);
        self.squares += (logprob_a - logprob_b).powi(2);
        self.kl.add(kl);
        self.all_kl.push(kl);
        self.agreement.add(f64::from(u8::from(best_a == best_b)));
        let place = self.most_different.partition_point(|other| other.kl >= kl);
        if kl > 0.0 && place < self.n_most_different {
            self.most_different.truncate(self.n_most_different - 1);
            let found = TokenDifference { position, token, logprob_a, logprob_b, kl, best_a, best_b };
            self.most_different.insert(place, found);
        }
    }

    fn report(mut self, context: usize, stride: usize, n_tokens: usize, complete: bool) -> CompareReport {
        self.all_kl.sort_by(f64::total_cmp);
        let figures = |nll: &Moments| {
            let nll = nll.result();
            ModelFigures { nll, perplexity: nll.mean.exp() }
        };
        CompareReport {
            protocol: "hf",
            context,
            stride,
            bos: false,
            n_tokens,
            complete,
            tokens_scored: self.kl.count(),
            a: figures(&self.nll_a),
            b: figures(&self.nll_b),
            nll_difference: self.nll_difference.result(),
            kl: Divergence {
                mean: self.kl.result(),
                max: self.all_kl.last().copied().unwrap_or(0.0),
                quantiles: QUANTILES.iter().map(|&q| (q, quantile(&self.all_kl, q))).collect(),
            },
            top1_agreement: self.agreement.result(),
            logprob_rms_difference: (self.squares / self.kl.count() as f64).sqrt(),
            most_different: self.most_different,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_divergences_are_kept_in_order() {
        let mut sums = Sums { n_most_different: 3, ..Sums::default() };
        for (position, kl) in [0.2, 0.5, 0.0, 0.1, 0.5, 0.3].into_iter().enumerate() {
            let row =
                RowDifference { logprob_a: -1.0, logprob_b: -1.5, kl, best_a: 1, best_b: position as u32 };
            sums.add(position, 7, &row);
        }
        let report = sums.report(8, 4, 7, true);
        let places: Vec<_> = report.most_different.iter().map(|d| (d.position, d.kl)).collect();
        assert_eq!(places, [(1, 0.5), (4, 0.5), (5, 0.3)]);
        assert_eq!((report.kl.max, report.tokens_scored), (0.5, 6));
        assert_eq!((report.nll_difference.mean, report.logprob_rms_difference), (0.5, 0.5));
        assert!((report.top1_agreement.mean - 1.0 / 6.0).abs() < 1e-15);
    }
}
