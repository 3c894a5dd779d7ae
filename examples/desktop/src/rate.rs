//! Rates each token of a text, on the worker's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wgpt::{CancelFlag, TokenScore};
use wgpt::Tokenizer;
use wgpt::{Engine, Session};

use crate::pace::Pace;

/// Tokens in one pass: the first size, and the limits.
const PASS_FIRST: usize = 32;
const PASS_MIN: usize = 4;
const PASS_MAX: usize = 256;

/// A token of the text and the model's rating of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rating {
    /// The token's bytes; possibly only part of a character.
    pub bytes: Vec<u8>,
    /// `None` for the text's first token if the model has no begin token to put before it.
    pub score: Option<Score>,
}

/// The model's rating of a token in its context.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Natural log-probability.
    pub logprob: f32,
    /// Number of tokens that are more probable.
    pub rank: u32,
    /// The bytes of the most probable token.
    pub best: Vec<u8>,
    /// Its natural log-probability.
    pub best_logprob: f32,
}

/// Rates every token of `text`. Each token is rated with at least half a context of text
/// before it, if the text has that much.
///
/// # Errors
/// The errors of the engine; [`wgpt::Error::Cancelled`].
pub fn run(engine: &Engine, text: &str, cancel: &CancelFlag, pace: &Pace) -> wgpt::Result<Vec<Rating>> {
    let tokenizer = engine.tokenizer()?;
    let tokens = tokenizer.encode(text)?;
    let mut session = engine.session();
    session.set_cancel(Arc::clone(cancel));
    let mut pass = Pass { tokens: PASS_FIRST, pace };
    let mut ratings = Vec::with_capacity(tokens.len());
    match (engine.files().bos_token_id(), tokens.first()) {
        (_, None) => return Ok(ratings),
        (Some(bos), _) => session.prefill(&[bos])?,
        (None, Some(&first)) => {
            session.prefill(&[first])?;
            ratings.push(Rating { bytes: tokenizer.token_bytes(first), score: None });
        }
    }
    while ratings.len() < tokens.len() {
        let next = ratings.len();
        if session.len() == engine.n_ctx() {
            session.truncate(0);
            pass.prefill(&mut session, &tokens[next - engine.n_ctx() / 2..next])?;
        }
        let room = engine.n_ctx() - session.len();
        let end = tokens.len().min(next + pass.tokens.min(room));
        let scores = pass.timed(|| session.score_detailed(&tokens[next..end]))?;
        let rated = tokens[next..end].iter().zip(scores);
        ratings.extend(rated.map(|(&token, score)| rating(tokenizer, token, score)));
    }
    Ok(ratings)
}

fn rating(tokenizer: &Tokenizer, token: u32, score: TokenScore) -> Rating {
    let TokenScore { logprob, rank, best, best_logprob } = score;
    let score = Score { logprob, rank, best: tokenizer.token_bytes(best), best_logprob };
    Rating { bytes: tokenizer.token_bytes(token), score: Some(score) }
}

/// The number of tokens per pass, adjusted to the budget.
struct Pass<'a> {
    tokens: usize,
    pace: &'a Pace,
}

impl Pass<'_> {
    fn prefill(&mut self, session: &mut Session, tokens: &[u32]) -> wgpt::Result<()> {
        let mut begin = 0;
        while begin < tokens.len() {
            let end = tokens.len().min(begin + self.tokens);
            self.timed(|| session.prefill(&tokens[begin..end]))?;
            begin = end;
        }
        Ok(())
    }

    /// Runs a pass and adjusts the size of the next one to its time.
    fn timed<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let value = self.pace.piece(run);
        self.tokens = next_size(self.tokens, started.elapsed(), self.pace.budget());
        value
    }
}

/// The size of the next pass: half as many tokens after a pass that exceeded the budget,
/// twice as many after one that took less than a third of it.
fn next_size(tokens: usize, took: Duration, budget: Option<Duration>) -> usize {
    let next = match budget {
        None => PASS_MAX,
        Some(budget) if took > budget => tokens / 2,
        Some(budget) if took * 3 < budget => tokens * 2,
        Some(_) => tokens,
    };
    next.clamp(PASS_MIN, PASS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_sizes_follow_the_budget() {
        let ms = Duration::from_millis;
        assert_eq!(next_size(32, ms(9), Some(ms(4))), 16);
        assert_eq!(next_size(32, ms(3), Some(ms(4))), 32);
        assert_eq!(next_size(32, ms(1), Some(ms(4))), 64);
        assert_eq!(next_size(PASS_MIN, ms(90), Some(ms(4))), PASS_MIN);
        assert_eq!(next_size(32, ms(90), None), PASS_MAX);
    }
}
