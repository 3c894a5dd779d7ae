//! Perplexity over a text in sliding windows: the protocol of the Hugging Face
//! documentation ("Perplexity of fixed-length models").

use std::ops::ControlFlow;

use serde::Serialize;

use crate::engine::{CancelFlag, Engine, Session};
use crate::error::{Error, Result};
use crate::sampling::{NllSum, negative_log_likelihood, perplexity};

/// How a text is cut into windows.
#[derive(Clone, Debug, Default)]
pub struct PerplexityOptions {
    /// Tokens from one window's start to the next; half the context by default.
    /// Smaller strides give each token more context and take longer.
    pub stride: Option<usize>,
    /// A flag that ends the evaluation, also within a window, with what is
    /// known by then.
    pub cancel: Option<CancelFlag>,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerplexityReport {
    /// Always "hf": one stream of tokens, sliding windows, overlap as context.
    pub protocol: &'static str,
    /// Length of a window.
    pub context: usize,
    /// Tokens from one window's start to the next.
    pub stride: usize,
    /// Whether a begin-of-text token is put in front: this protocol has none.
    pub bos: bool,
    /// Tokens of the text.
    pub n_tokens: usize,
    /// Whether the whole text was scored; false for a cancelled evaluation.
    pub complete: bool,
    /// Tokens that were scored.
    pub tokens_scored: u64,
    /// Mean negative log-likelihood of a scored token, in nats.
    pub nll: f64,
    /// `exp(nll)`
    pub perplexity: f64,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug)]
pub struct PerplexityProgress {
    /// Tokens of the text that are behind.
    pub tokens_done: usize,
    /// Tokens of the text.
    pub n_tokens: usize,
    /// The estimate so far.
    pub perplexity: Option<f64>,
}

/// Windows of a text: `(begin, end, first_scored)`, all in tokens of the text.
///
/// Each window scores the tokens that no earlier window held, except a
/// window's first, which has no context: with overlapping windows that is the
/// text's first alone, with stride = context the first of each window.
fn windows(n_tokens: usize, context: usize, stride: usize) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    let mut scored_to = 0;
    for begin in (0..n_tokens).step_by(stride) {
        let end = (begin + context).min(n_tokens);
        all.push((begin, end, scored_to.max(begin + 1)));
        scored_to = end;
        if end == n_tokens {
            break;
        }
    }
    all
}

/// Evaluates `tokens` as one text. The callback's `Break` and the cancel flag
/// end it early with what is known so far.
///
/// # Errors
/// [`Error::Input`] for fewer than two tokens, a token outside the vocabulary
/// or a stride outside 1 to the context; errors of the device;
/// [`Error::Cancelled`] before the first token was scored.
pub fn evaluate(
    engine: &Engine,
    tokens: &[u32],
    options: PerplexityOptions,
    progress: &mut dyn FnMut(PerplexityProgress) -> ControlFlow<()>,
) -> Result<PerplexityReport> {
    let context = engine.n_ctx();
    let stride = options.stride.unwrap_or((context / 2).max(1));
    if stride == 0 || stride > context {
        return Err(Error::input(format!("stride {stride}: expected 1 to the context of {context}")));
    }
    if tokens.len() < 2 || context < 2 {
        return Err(Error::input(format!(
            "the text has {} tokens and the context {context} positions: perplexity needs at least 2 of both",
            tokens.len()
        )));
    }
    let mut sum = NllSum::default();
    let mut session = engine.session();
    if let Some(flag) = &options.cancel {
        session.set_cancel(flag.clone());
    }
    let mut complete = false;
    for (begin, end, first_scored) in windows(tokens.len(), context, stride) {
        match score(&mut session, tokens, begin..end, first_scored, &mut sum) {
            Err(Error::Cancelled) => break,
            scored => scored?,
        }
        complete = end == tokens.len();
        let state =
            PerplexityProgress { tokens_done: end, n_tokens: tokens.len(), perplexity: sum.perplexity() };
        if progress(state).is_break() {
            break;
        }
    }
    // A whole evaluation of two tokens or more scores at least one.
    let nll = sum.mean().ok_or(Error::Cancelled)?;
    Ok(PerplexityReport {
        protocol: "hf",
        context,
        stride,
        bos: false,
        n_tokens: tokens.len(),
        complete,
        tokens_scored: sum.count(),
        nll,
        perplexity: perplexity(nll),
    })
}

/// Adds the scores of one window.
fn score(
    session: &mut Session,
    tokens: &[u32],
    window: std::ops::Range<usize>,
    first_scored: usize,
    sum: &mut NllSum,
) -> Result<()> {
    session.truncate(0);
    // Token i is scored by the logits behind token i - 1; the last token's
    // logits score nothing, and the overlap's are not needed.
    let context = &tokens[window.start..first_scored - 1];
    let scored = &tokens[first_scored - 1..window.end - 1];
    if !context.is_empty() {
        session.prefill(context)?;
    }
    if scored.is_empty() {
        return Ok(());
    }
    session.advance_each(scored, |i, logits| {
        sum.add(negative_log_likelihood(logits, tokens[first_scored + i])?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn windows_score_each_token_once() {
        for (n, context, stride) in
            [(2, 512, 256), (512, 512, 512), (513, 512, 512), (1000, 64, 1), (777, 11, 4)]
        {
            let mut scored = vec![0; n];
            for (begin, end, first) in windows(n, context, stride) {
                assert!(begin < first && end <= n && end - begin <= context);
                scored[first..end].iter_mut().for_each(|count| *count += 1);
            }
            assert!(scored.iter().all(|&count| count <= 1));
            let left_out: Vec<_> = (0..n).filter(|&i| scored[i] == 0).collect();
            if stride < context {
                assert_eq!(left_out, [0], "{n} {context} {stride}");
            } else {
                let starts: Vec<_> = windows(n, context, stride).iter().map(|w| w.0).collect();
                assert_eq!(left_out, starts);
            }
        }
    }
}
