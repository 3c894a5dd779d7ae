//! Penalties for tokens that have already occurred, and the user's logit bias.

use super::check::check_token;
use super::params::SamplingParams;
use crate::error::Result;

/// Applies penalties and bias to `logits` (`[vocab_size]`) in place.
///
/// `counts` is scratch space: `[vocab_size]` zeros before and after if a penalty is on,
/// otherwise unused.
///
/// # Errors
/// `Error::Input` if a penalty is on and the history contains an id outside the
/// vocabulary.
pub(super) fn apply(
    params: &SamplingParams,
    history: &[u32],
    counts: &mut [u32],
    logits: &mut [f32],
) -> Result<()> {
    if params.penalises() {
        let n = params.repeat_last_n.unwrap_or(history.len());
        let window = &history[history.len().saturating_sub(n)..];
        for &token in window {
            check_token("history", token, logits.len())?;
        }
        for &token in window {
            counts[token as usize] += 1;
        }
        for &token in window {
            // `take` leaves 0, so a repeated token is penalised only once.
            let count = std::mem::take(&mut counts[token as usize]);
            if count > 0 {
                let logit = &mut logits[token as usize];
                *logit = penalised(params, *logit, count);
            }
        }
    }
    for (&token, &bias) in &params.logit_bias {
        logits[token as usize] += bias;
    }
    Ok(())
}

/// Returns the penalised logit of a token that occurs `count` times, at least once.
fn penalised(params: &SamplingParams, logit: f32, count: u32) -> f32 {
    let logit =
        if logit > 0.0 { logit / params.repetition_penalty } else { logit * params.repetition_penalty };
    logit - count as f32 * params.frequency_penalty - params.presence_penalty
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(params: &SamplingParams, history: &[u32], logits: &[f32]) -> Vec<f32> {
        let mut counts = vec![0; logits.len()];
        let mut logits = logits.to_vec();
        apply(params, history, &mut counts, &mut logits).unwrap();
        assert!(counts.iter().all(|&c| c == 0), "the scratch is left clean");
        logits
    }

    const LOGITS: [f32; 4] = [2.0, -1.0, 0.5, 3.0];

    #[test]
    fn repetition_divides_positive_and_multiplies_negative_once() {
        let params = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::greedy() };
        assert_eq!(applied(&params, &[0, 1, 0, 0], &LOGITS), [1.0, -2.0, 0.5, 3.0]);
        assert_eq!(applied(&params, &[], &LOGITS), LOGITS);
        assert_eq!(applied(&params, &[0], &[f32::NEG_INFINITY, 1.0])[0], f32::NEG_INFINITY);
    }

    #[test]
    fn frequency_counts_repeats_but_presence_does_not() {
        let history = [0, 2, 0, 0];
        let frequency = SamplingParams { frequency_penalty: 0.5, ..SamplingParams::greedy() };
        assert_eq!(applied(&frequency, &history, &LOGITS), [0.5, -1.0, 0.0, 3.0]);
        let presence = SamplingParams { presence_penalty: 0.5, ..SamplingParams::greedy() };
        assert_eq!(applied(&presence, &history, &LOGITS), [1.5, -1.0, 0.0, 3.0]);
        let both = SamplingParams { presence_penalty: 0.25, repetition_penalty: 2.0, ..frequency };
        assert_eq!(applied(&both, &history, &LOGITS)[0], 2.0 / 2.0 - 3.0 * 0.5 - 0.25);
    }

    #[test]
    fn the_window_covers_the_newest_tokens() {
        let params = SamplingParams { presence_penalty: 1.0, ..SamplingParams::greedy() };
        let last = |n| SamplingParams { repeat_last_n: Some(n), ..params.clone() };
        assert_eq!(applied(&last(2), &[0, 1, 3], &LOGITS), [2.0, -2.0, 0.5, 2.0]);
        assert_eq!(applied(&last(0), &[0, 1, 3], &LOGITS), LOGITS);
        assert_eq!(applied(&last(99), &[0, 1, 3], &LOGITS), applied(&params, &[0, 1, 3], &LOGITS));
    }

    #[test]
    fn bias_is_added_after_the_penalties() {
        let logit_bias = [(0, 1.0), (3, f32::NEG_INFINITY)].into();
        let params = SamplingParams { repetition_penalty: 2.0, logit_bias, ..SamplingParams::greedy() };
        assert_eq!(applied(&params, &[0], &LOGITS), [2.0, -1.0, 0.5, f32::NEG_INFINITY]);
    }

    #[test]
    fn an_unknown_id_is_an_error_and_leaves_the_scratch_clean() {
        let params = SamplingParams { presence_penalty: 1.0, ..SamplingParams::greedy() };
        let mut counts = [0; 4];
        let error = apply(&params, &[1, 4], &mut counts, &mut LOGITS.clone()).unwrap_err();
        assert_eq!(error.to_string(), "history: token 4 is not in the vocabulary of 4 tokens");
        assert_eq!(counts, [0; 4]);
    }
}
