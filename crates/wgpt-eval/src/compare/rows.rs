//! Comparison of two rows of logits in f64.

use wgpt::{Error, LogSoftmax, Result};

/// Difference between two models' predictions after the same tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RowDifference {
    /// log P of the text's token under each model, in nats.
    pub logprob_a: f64,
    pub logprob_b: f64,
    /// D(A || B) in nats: the sum of P_A (log P_A - log P_B) over the vocabulary.
    pub kl: f64,
    /// Most probable token of each model; among equals the lowest id.
    pub best_a: u32,
    pub best_b: u32,
}

/// Compares two rows, `[vocab_size]`; `target` is the text's token.
pub(super) fn difference(a: &[f32], b: &[f32], target: u32) -> Result<RowDifference> {
    let (of_a, of_b) = (LogSoftmax::new(a)?, LogSoftmax::new(b)?);
    let (Some(&at_a), Some(&at_b)) = (a.get(target as usize), b.get(target as usize)) else {
        return Err(Error::input(format!("token {target} is not in the vocabulary of {} tokens", a.len())));
    };
    let mut kl = 0.0;
    for (&a, &b) in a.iter().zip(b) {
        let log_a = of_a.of(a);
        let p = log_a.exp();
        // The limit of x log x at 0 is 0, but the difference of the logarithms may be
        // infinite there.
        if p > 0.0 {
            kl += p * (log_a - of_b.of(b));
        }
    }
    Ok(RowDifference {
        logprob_a: of_a.of(at_a),
        logprob_b: of_b.of(at_b),
        // Only rounding makes the divergence negative.
        kl: kl.max(0.0),
        best_a: best(a),
        best_b: best(b),
    })
}

fn best(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_matches_a_hand_calculation() {
        // P = (1/2, 1/4, 1/4), Q = (1/4, 1/4, 1/2): 1/2 ln 2 - 1/4 ln 2.
        let logits = |p: [f64; 3]| p.map(|p| (p.ln() + 3.0) as f32);
        let (p, q) = (logits([0.5, 0.25, 0.25]), logits([0.25, 0.25, 0.5]));
        let found = difference(&p, &q, 1).unwrap();
        assert!((found.kl - 0.25 * 2f64.ln()).abs() < 1e-7, "{found:?}");
        assert!(
            (found.logprob_a - 0.25f64.ln()).abs() < 1e-7 && (found.logprob_b - 0.25f64.ln()).abs() < 1e-7
        );
        assert_eq!((found.best_a, found.best_b), (0, 2));
        let same = difference(&p, &p, 2).unwrap();
        assert_eq!((same.kl, same.logprob_a), (0.0, same.logprob_b));
    }

    #[test]
    fn banned_tokens_add_nothing_or_infinity() {
        let banned = [1.0, f32::NEG_INFINITY, 1.0];
        let free = [1.0, 1.0, 1.0];
        assert!((difference(&banned, &free, 0).unwrap().kl - 1.5f64.ln()).abs() < 1e-12);
        assert_eq!(difference(&free, &banned, 0).unwrap().kl, f64::INFINITY);
        assert_eq!(difference(&banned, &free, 1).unwrap().logprob_a, f64::NEG_INFINITY);
        assert!(difference(&[f32::NAN, 1.0], &[1.0, 1.0], 0).is_err());
        assert!(difference(&free, &free, 3).is_err());
    }
}
