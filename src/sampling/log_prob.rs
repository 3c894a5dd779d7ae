//! Log-probabilities under the model's own distribution, and perplexity.

use super::candidates::{Candidate, buffer_len, largest};
use super::check::{check_logits, check_token};
use crate::error::Result;

/// The probability that the model gave to a token, and the most likely tokens.
///
/// They come from the raw logits, without penalties, bias, temperature or filters, so the
/// chosen token need not be among the most likely ones.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The given token.
    pub token: u32,
    /// Its natural log-probability; -inf if its logit is -inf.
    pub logprob: f32,
    /// The most likely tokens with their log-probabilities, in descending order, with the
    /// lower id first if there is a tie. Tokens with a logit of -inf are omitted.
    pub top: Vec<(u32, f32)>,
}

/// Returns the log-probability of `token` under `logits` (`[vocab_size]`), with the
/// `n_best` most likely tokens (fewer if the vocabulary is smaller).
///
/// # Errors
/// `Error::Input` if `token` is outside the vocabulary, if a logit is NaN or +inf, or
/// if none is above -inf.
pub fn token_logprobs(logits: &[f32], token: u32, n_best: usize) -> Result<TokenLogprobs> {
    check_token("logprobs", token, logits.len())?;
    let softmax = LogSoftmax::new(logits)?;
    let mut best: Vec<Candidate> = Vec::with_capacity(buffer_len(n_best, logits.len()));
    largest(logits, n_best, &mut best);
    let top = best.iter().map(|c| (c.token, softmax.of(c.logit) as f32)).collect();
    Ok(TokenLogprobs { token, logprob: softmax.of(logits[token as usize]) as f32, top })
}

/// Returns the negative natural log-likelihood of `target` under `logits`
/// (`[vocab_size]`), in nats and f64; +inf if the target's logit is -inf.
///
/// # Errors
/// As [`token_logprobs`].
pub fn negative_log_likelihood(logits: &[f32], target: u32) -> Result<f64> {
    check_token("target", target, logits.len())?;
    // The subtraction from 0.0 makes certainty give 0 instead of -0.
    Ok(0.0 - LogSoftmax::new(logits)?.of(logits[target as usize]))
}

/// The log-softmax of a row of logits, in f64: each logit minus the normaliser.
///
/// The normaliser is stored in two parts. The maximum prevents overflow. The rest is
/// separate, so a huge maximum costs no precision.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax {
    max: f64,
    /// ln(sum(exp(logit - max)))
    ln_sum: f64,
}

impl LogSoftmax {
    /// Computes the normaliser of `logits`, `[vocab_size]`.
    ///
    /// # Errors
    /// `Error::Input` if a logit is NaN or +inf, or if none is above -inf.
    pub fn new(logits: &[f32]) -> Result<Self> {
        let max = f64::from(check_logits("logits", logits)?);
        let sum: f64 = logits.iter().map(|&l| (f64::from(l) - max).exp()).sum();
        Ok(LogSoftmax { max, ln_sum: sum.ln() })
    }

    /// Returns the natural log-probability of a token with this logit.
    #[must_use]
    pub fn of(&self, logit: f32) -> f64 {
        f64::from(logit) - self.max - self.ln_sum
    }
}

/// Returns the perplexity for a mean negative log-likelihood in nats: its exponential.
#[must_use]
pub fn perplexity(mean_nll: f64) -> f64 {
    mean_nll.exp()
}

/// A sum of negative log-likelihoods that gives their mean, the perplexity and the
/// standard errors of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NllSum {
    sum: f64,
    /// The sum of squared distances from the mean (Welford 1962). The difference of two
    /// large sums would lose this value to rounding.
    squares: f64,
    count: u64,
}

impl NllSum {
    /// Adds the negative log-likelihood of one token, in nats.
    pub fn add(&mut self, nll: f64) {
        let before = self.mean().unwrap_or(nll);
        self.sum += nll;
        self.count += 1;
        let after = self.sum / self.count as f64;
        self.squares += (nll - before) * (nll - after);
    }

    /// Returns the number of tokens added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sum of all of them, in nats.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the mean negative log-likelihood per token; `None` before the first token.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Returns the standard error of the mean, which treats tokens as independent draws:
    /// the sample standard deviation divided by the square root of their number. `None`
    /// for fewer than two tokens, or if one has probability 0.
    #[must_use]
    pub fn standard_error(&self) -> Option<f64> {
        let n = self.count as f64;
        let error = (self.squares / (n * (n - 1.0))).sqrt();
        (self.count > 1 && error.is_finite()).then_some(error)
    }

    /// Returns the perplexity; `None` before the first token.
    #[must_use]
    pub fn perplexity(&self) -> Option<f64> {
        self.mean().map(perplexity)
    }

    /// Returns the standard error of the perplexity by the delta method: the standard
    /// error of the mean times the derivative of the exponential, which is the perplexity
    /// itself.
    #[must_use]
    pub fn perplexity_standard_error(&self) -> Option<f64> {
        Some(self.standard_error()? * self.perplexity()?)
    }
}

impl Extend<f64> for NllSum {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, nlls: I) {
        nlls.into_iter().for_each(|nll| self.add(nll));
    }
}

impl FromIterator<f64> for NllSum {
    fn from_iter<I: IntoIterator<Item = f64>>(nlls: I) -> Self {
        let mut sum = NllSum::default();
        sum.extend(nlls);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f32 = f32::INFINITY;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
    }

    #[test]
    fn perplexity_matches_a_worked_example() {
        // Each probability as the logits of a vocabulary of two. f32 logits represent a
        // probability to about 1e-7.
        let probabilities = [0.85_f64, 0.72, 0.30, 0.95, 0.60, 0.45, 0.88, 0.15, 0.70, 0.55];
        let nlls: NllSum = probabilities
            .iter()
            .map(|p| negative_log_likelihood(&[(1.0 - p).ln() as f32, p.ln() as f32], 1).unwrap())
            .collect();
        assert_eq!(nlls.count(), 10);
        close(nlls.mean().unwrap(), 0.603509, 5e-7);
        close(nlls.perplexity().unwrap(), 1.828523, 5e-7);
        close(perplexity(nlls.mean().unwrap()), 1.828523, 5e-7);
        // Python's statistics.stdev of the ten values, divided by the square root of 10.
        close(nlls.standard_error().unwrap(), 0.180827, 5e-7);
        close(nlls.perplexity_standard_error().unwrap(), 0.330647, 5e-7);
    }

    #[test]
    fn standard_errors_handle_few_and_large_values() {
        let of = |nlls: &[f64]| nlls.iter().copied().collect::<NllSum>().standard_error();
        assert_eq!([of(&[]), of(&[1.0]), of(&[1.0, INF.into()])], [None; 3]);
        assert_eq!(of(&[2.0, 2.0, 2.0]), Some(0.0));
        // A large mean costs the deviation no precision.
        close(of(&[1e9, 1e9 + 1.0, 1e9 + 2.0]).unwrap(), (1.0_f64 / 3.0).sqrt(), 1e-9);
    }

    #[test]
    fn perplexity_ranges_from_1_to_the_vocabulary_size() {
        for vocab_size in [1_usize, 2, 50257, 128_256] {
            let uniform = vec![-7.25; vocab_size];
            let nll = negative_log_likelihood(&uniform, vocab_size as u32 / 2).unwrap();
            let relative = perplexity(nll) / vocab_size as f64;
            close(relative, 1.0, 1e-12);
            let mut perfect = vec![-INF; vocab_size];
            perfect[vocab_size / 2] = 3.0;
            assert_eq!(perplexity(negative_log_likelihood(&perfect, vocab_size as u32 / 2).unwrap()), 1.0);
        }
        assert_eq!((NllSum::default().mean(), NllSum::default().perplexity()), (None, None));
    }

    #[test]
    fn extreme_logits_stay_exact() {
        close(negative_log_likelihood(&[3e38, 3e38], 0).unwrap(), 2_f64.ln(), 1e-12);
        close(negative_log_likelihood(&[1e4, 1e4], 0).unwrap(), 2_f64.ln(), 1e-12);
        close(negative_log_likelihood(&[-1e4, -1e4], 1).unwrap(), 2_f64.ln(), 1e-12);
        close(negative_log_likelihood(&[500.0, -500.0], 1).unwrap(), 1000.0, 1e-9);
        assert_eq!(negative_log_likelihood(&[0.0, -INF], 1).unwrap(), f64::INFINITY);
    }

    #[test]
    fn logprobs_contain_the_token_and_the_best_ones() {
        let logits = [1.0, 3.0, 3.0, -INF, 2.0];
        let z: f64 = [1.0_f64, 3.0, 3.0, 2.0].iter().map(|l| l.exp()).sum();
        let found = token_logprobs(&logits, 0, 3).unwrap();
        assert_eq!(found.token, 0);
        close(f64::from(found.logprob), 1.0 - z.ln(), 1e-6);
        assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2, 4]);
        for (token, logprob) in &found.top {
            close(f64::from(*logprob), f64::from(logits[*token as usize]) - z.ln(), 1e-6);
        }
        assert_eq!(token_logprobs(&logits, 3, 9).unwrap().logprob, -INF);
        assert_eq!(token_logprobs(&logits, 3, 9).unwrap().top.len(), 4);
        assert!(token_logprobs(&logits, 3, 0).unwrap().top.is_empty());
    }

    #[test]
    fn bad_rows_and_targets_are_errors() {
        let message =
            |logits: &[f32], target| negative_log_likelihood(logits, target).unwrap_err().to_string();
        assert_eq!(message(&[0.0; 4], 4), "target: token 4 is not in the vocabulary of 4 tokens");
        assert!(message(&[0.0, f32::NAN], 0).contains("NaN"));
        assert!(message(&[-INF; 2], 0).contains("all 2 are -inf"));
        assert!(token_logprobs(&[0.0, INF], 0, 1).is_err());
        assert!(token_logprobs(&[0.0, 0.0], 2, 1).is_err());
    }
}
