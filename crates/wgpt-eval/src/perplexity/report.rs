//! Results of an evaluation.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use super::document::Extent;
use super::protocol::{BosPolicy, Protocol};
use wgpt::NllSum;

/// Figures from [`super::evaluate`], with the protocol and the text that they refer to.
///
/// A figure is `None` if it does not exist, or if it is infinite because a token has
/// probability 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerplexityReport {
    /// How the text was split and which tokens were scored.
    pub protocol: Protocol,
    /// Window length in tokens.
    pub context: usize,
    /// Tokens from the start of one window to the start of the next; equal to the context
    /// if windows do not overlap.
    pub stride: usize,
    /// Use of the begin-of-text token.
    pub bos: BosPolicy,
    /// Id of the begin-of-text token, if it was used.
    pub bos_token: Option<u32>,
    /// Number of documents in the text.
    pub n_documents: usize,
    /// Number of tokens in the text.
    pub n_tokens: usize,
    /// Requested maximum: of windows under a stream protocol, of documents otherwise.
    pub limit: Option<usize>,
    /// Whether all requested tokens were scored; false if the evaluation was cancelled.
    pub complete: bool,
    /// Number of scored windows.
    pub windows_scored: u64,
    /// Number of scored tokens.
    pub tokens_scored: u64,
    /// Bytes of text in the scored tokens.
    pub bytes_scored: Option<u64>,
    /// Words that begin in the scored tokens; under lm-eval the pieces of
    /// `re.split(r"\s+", text)`.
    pub words_scored: Option<u64>,
    /// Mean negative log-likelihood of the scored tokens, in nats.
    pub nll: Option<f64>,
    /// Standard error of that mean, assuming independent tokens.
    pub nll_stderr: Option<f64>,
    /// `exp(nll)`
    pub perplexity: Option<f64>,
    /// Standard error of the perplexity by the delta method: `perplexity * nll_stderr`.
    pub perplexity_stderr: Option<f64>,
    /// Sum of the negative log-likelihoods in bits, per byte of text.
    pub bits_per_byte: Option<f64>,
    /// Sum of the negative log-likelihoods in bits, per word of text.
    pub bits_per_word: Option<f64>,
    /// `2^bits_per_byte`
    pub byte_perplexity: Option<f64>,
    /// `2^bits_per_word`
    pub word_perplexity: Option<f64>,
}

/// One scored token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Index of the token's document.
    pub document: usize,
    /// Index of the token in its document.
    pub index: usize,
    /// Position in the window that scored the token. The tokens before it are its
    /// context.
    pub position: usize,
    /// Id of the token.
    pub token: u32,
    /// Natural log-probability of the token.
    pub logprob: f32,
    /// Number of tokens that were more probable; among equals, a lower id counts as more
    /// probable.
    pub rank: u32,
    /// Most probable token at this position.
    pub best: u32,
    /// Natural log-probability of the most probable token.
    pub best_logprob: f32,
}

impl TokenRecord {
    /// Returns the negative log-likelihood in nats.
    #[must_use]
    pub fn nll(&self) -> f64 {
        // Subtract, so that certainty gives 0 and not -0.
        0.0 - f64::from(self.logprob)
    }

    /// Returns the probability of the token.
    #[must_use]
    pub fn probability(&self) -> f64 {
        f64::from(self.logprob).exp()
    }

    /// Returns the most probable token and its probability, or `None` if it is this
    /// token.
    #[must_use]
    pub fn alternative(&self) -> Option<(u32, f64)> {
        (self.best != self.token).then(|| (self.best, f64::from(self.best_logprob).exp()))
    }
}

/// Returns for each record whether it dominates. The dominating records are the smallest
/// set that makes up at least half of the sum of all negative log-likelihoods. Among
/// equal records, earlier ones are taken first.
#[must_use]
pub fn dominating(records: &[TokenRecord]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by(|&a, &b| records[b].nll().total_cmp(&records[a].nll()));
    let half = records.iter().map(TokenRecord::nll).sum::<f64>() / 2.0;
    let mut marked = vec![false; records.len()];
    let mut sum = 0.0;
    for i in order {
        if sum >= half {
            break;
        }
        sum += records[i].nll();
        marked[i] = true;
    }
    marked
}

/// Running sums of an evaluation, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub nlls: NllSum,
    pub n_bytes: u64,
    pub n_words: u64,
}

impl Totals {
    /// Adds a token with the given natural log-probability.
    pub fn add(&mut self, logprob: f32, extent: Extent) {
        self.nlls.add(0.0 - f64::from(logprob));
        self.n_bytes += u64::from(extent.n_bytes);
        self.n_words += u64::from(extent.n_words);
    }

    /// Returns the sum of the negative log-likelihoods in bits, divided by `n` units, or
    /// `None` without units.
    pub fn bits_per(&self, n: Option<u64>) -> Option<f64> {
        n.filter(|&n| n > 0).map(|n| self.nlls.sum() / LN_2 / n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(logprob: f32, best: u32) -> TokenRecord {
        TokenRecord {
            document: 0,
            index: 0,
            position: 1,
            token: 5,
            logprob,
            rank: 0,
            best,
            best_logprob: -0.5,
        }
    }

    /// Ten probabilities of a worked example, added up as an evaluation does.
    #[test]
    fn figures_match_a_worked_example() {
        let mut totals = Totals::default();
        for p in [0.85_f64, 0.72, 0.30, 0.95, 0.60, 0.45, 0.88, 0.15, 0.70, 0.55] {
            totals.add(p.ln() as f32, Extent { n_bytes: 3, n_words: 1 });
        }
        // f32 represents a log-probability with a relative error of 6e-8.
        let near = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 6e-7, "{found:?}, not {expected}");
        };
        near(totals.nlls.mean(), 0.603509);
        near(totals.nlls.perplexity(), 1.828523);
        near(totals.nlls.perplexity_standard_error(), 0.330647);
        near(totals.bits_per(Some(totals.n_words)), 0.603509 / LN_2);
        near(totals.bits_per(Some(totals.n_bytes)), 0.603509 / LN_2 / 3.0);
        assert_eq!((totals.bits_per(Some(0)), totals.bits_per(None)), (None, None));
    }

    #[test]
    fn perplexity_ranges_from_1_to_the_vocabulary_size() {
        for vocab_size in [2_u32, 1000, 50257] {
            let mut totals = Totals::default();
            (0..100).for_each(|_| totals.add(-f64::from(vocab_size).ln() as f32, Extent::default()));
            let ratio = totals.nlls.perplexity().unwrap() / f64::from(vocab_size);
            assert!((ratio - 1.0).abs() < 1e-6, "{ratio}");
        }
        let mut totals = Totals::default();
        (0..100).for_each(|_| totals.add(0.0, Extent::default()));
        assert_eq!(totals.nlls.perplexity(), Some(1.0));
        assert_eq!(totals.nlls.standard_error(), Some(0.0));
    }

    #[test]
    fn the_fewest_tokens_with_half_of_the_sum_dominate() {
        let marks = |nlls: &[f32]| {
            let records: Vec<_> = nlls.iter().map(|nll| record(-nll, 0)).collect();
            dominating(&records).iter().map(|&mark| if mark { '*' } else { '.' }).collect::<String>()
        };
        assert_eq!(marks(&[1.0, 5.0, 1.0, 3.0]), ".*..");
        assert_eq!(marks(&[1.0, 4.0, 1.0, 3.0]), ".*.*");
        assert_eq!(marks(&[2.0, 2.0, 2.0, 2.0]), "**..");
        assert_eq!((marks(&[]), marks(&[0.0, 0.0])), (String::new(), "..".into()));
    }

    #[test]
    fn an_alternative_is_another_token() {
        assert_eq!(record(-0.5, 5).alternative(), None);
        let (token, p) = record(-2.0, 6).alternative().unwrap();
        assert!(token == 6 && (p - (-0.5_f64).exp()).abs() < 1e-12);
        assert!(record(0.0, 5).nll().is_sign_positive() && record(0.0, 5).probability() == 1.0);
    }
}
