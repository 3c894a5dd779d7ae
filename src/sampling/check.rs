//! The conditions that every row of logits must satisfy before it is used.

use crate::error::{Error, Result};

/// Checks one row of logits and returns its largest value, which is finite.
///
/// An entry of -inf is valid and bans a token. Messages call the row `row`.
///
/// # Errors
/// [`Error::Input`] if an entry is NaN or +inf, or if none is above -inf.
pub(super) fn check_logits(row: &str, logits: &[f32]) -> Result<f32> {
    let mut max = f32::NEG_INFINITY;
    let mut nan_count = 0;
    for &logit in logits {
        nan_count += usize::from(logit.is_nan());
        max = if logit > max { logit } else { max };
    }
    if nan_count == 0 && max.is_finite() {
        return Ok(max);
    }
    let n = logits.len();
    let first = |found: fn(f32) -> bool| logits.iter().position(|&l| found(l)).unwrap_or(n);
    Err(Error::input(if nan_count > 0 {
        let at = first(f32::is_nan);
        format!("{row}: {nan_count} of {n} are NaN, the first at token {at}: {CAUSES}")
    } else if max == f32::INFINITY {
        let count = logits.iter().filter(|&&l| l == f32::INFINITY).count();
        let at = first(|l| l == f32::INFINITY);
        format!("{row}: {count} of {n} are +inf, the first at token {at}: {CAUSES}")
    } else {
        format!("{row}: all {n} are -inf, so that no token can be chosen")
    }))
}

const CAUSES: &str = "expected finite values or -inf; the weights may be damaged or overflow in the \
                      chosen dtype, or a penalty or bias is too large";

/// Checks that a row has one logit for each token of the vocabulary.
pub(super) fn check_len(logits: &[f32], vocab_size: usize) -> Result<()> {
    if logits.len() == vocab_size {
        return Ok(());
    }
    Err(Error::input(format!("logits: expected {vocab_size}, one for each token, found {}", logits.len())))
}

/// Checks that `token` has a logit. Messages call it `role`.
pub(super) fn check_token(role: &str, token: u32, vocab_size: usize) -> Result<()> {
    if (token as usize) < vocab_size {
        return Ok(());
    }
    Err(Error::input(format!("{role}: token {token} is not in the vocabulary of {vocab_size} tokens")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_logits_are_counted_and_located() {
        const INF: f32 = f32::INFINITY;
        let message = |row: &[f32]| check_logits("logits", row).unwrap_err().to_string();
        assert!(
            message(&[0.0, f32::NAN, 1.0, f32::NAN])
                .starts_with("logits: 2 of 4 are NaN, the first at token 1")
        );
        assert!(message(&[0.0, 1.0, INF]).starts_with("logits: 1 of 3 are +inf, the first at token 2"));
        assert!(message(&[INF, f32::NAN]).starts_with("logits: 1 of 2 are NaN, the first at token 1"));
        assert!(message(&[-INF; 3]).starts_with("logits: all 3 are -inf"));
        assert!(message(&[]).starts_with("logits: all 0 are -inf"));
        assert_eq!(check_logits("logits", &[-INF, -3.0, f32::MIN]).unwrap(), -3.0);
    }
}
