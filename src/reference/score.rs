/// The score of a token under a row of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Natural log-probability.
    pub logprob: f64,
    /// Number of tokens before it, in descending order of logit, then in ascending order
    /// of id.
    pub rank: usize,
    /// The first token in that order.
    pub best: usize,
    /// Its natural log-probability.
    pub best_logprob: f64,
}

/// Returns the score of `target`; `None` if `argmax` returns `None`.
#[must_use]
pub fn score(logits: &[f32], target: usize) -> Option<Score> {
    let best = super::argmax(logits)?;
    let max = f64::from(logits[best]);
    let sum: f64 = logits.iter().map(|x| (f64::from(*x) - max).exp()).sum();
    let own = logits[target];
    let before = |&(i, x): &(usize, &f32)| *x > own || (*x == own && i < target);
    let rank = logits.iter().enumerate().filter(before).count();
    Some(Score { logprob: f64::from(own) - max - sum.ln(), rank, best, best_logprob: -sum.ln() })
}
