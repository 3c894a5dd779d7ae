//! Log-probabilities of endings. A shared context is evaluated once.
//!
//! The session of the last context is truncated to its common prefix with the next context, so the
//! shots of a subject run once. Each ending gets a fork. The forks of several questions, about
//! as many rows as a prefill chunk, are scored together. The last token of a context runs again
//! with each ending.

use super::encode::Encoded;
use wgpt::{CancelFlag, Engine, Result, Session, negative_log_likelihood, token_logprobs};

/// Scores of a question's endings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scores {
    /// Summed log-probability of each ending's tokens.
    pub(super) logprobs: Vec<f64>,
    /// Whether the model would have written the first ending; only if requested.
    pub(super) greedy: Option<bool>,
}

/// Method of scoring a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// All endings have one token. The logits after the context contain them all.
    Logits,
    /// Each ending is scored in its own session after the context, in one batch with
    /// other questions.
    Batch,
    /// The question is scored separately, with the rank of each token.
    Detailed,
    /// The context does not fit. Each ending is scored separately from the logits, after
    /// the part of the context that fits.
    Cut,
}

/// Scores questions and counts the tokens that the model evaluates.
pub(super) struct Scorer<'e> {
    engine: &'e Engine,
    /// Session with the last context. The next context reuses their common prefix, such
    /// as MMLU's shots.
    base: Session,
    cancel: Option<CancelFlag>,
    /// Whether to compute [`Scores::greedy`].
    greedy: bool,
    /// Number of tokens evaluated so far.
    pub(super) tokens: u64,
}

impl<'e> Scorer<'e> {
    pub(super) fn new(engine: &'e Engine, cancel: Option<CancelFlag>, greedy: bool) -> Self {
        let mut scorer = Scorer { engine, base: engine.session(), cancel, greedy, tokens: 0 };
        scorer.base = scorer.session();
        scorer
    }

    fn session(&self) -> Session {
        let mut session = self.engine.session();
        if let Some(flag) = &self.cancel {
            session.set_cancel(flag.clone());
        }
        session
    }

    fn route(&self, item: &Encoded) -> Route {
        let n_ctx = self.engine.n_ctx();
        if !self.greedy && item.longest() == 1 && item.context.len() <= n_ctx {
            Route::Logits
        } else if item.context.len() + item.longest() > n_ctx {
            Route::Cut
        } else if self.greedy {
            Route::Detailed
        } else {
            Route::Batch
        }
    }

    /// Scores a batch. Each context is evaluated once, and its endings follow in forks of
    /// its session. The endings of all questions are evaluated together.
    ///
    /// # Errors
    /// The errors of [`Engine::score`].
    pub(super) fn shared(&mut self, batch: &[Encoded]) -> Result<Vec<Scores>> {
        let mut forks = Vec::new();
        let mut all = Vec::with_capacity(batch.len());
        for (i, item) in batch.iter().enumerate() {
            all.push(match self.route(item) {
                Route::Logits => {
                    let rest = keep_common(&mut self.base, &item.context, 1);
                    self.tokens += rest.len() as u64;
                    let logits = self.base.advance(rest)?;
                    let logprobs = item.endings.iter().map(|ending| logprob(logits, ending[0]));
                    Scores { logprobs: logprobs.collect::<Result<_>>()?, greedy: None }
                }
                Route::Cut => self.cut(item)?,
                Route::Detailed => self.detailed(item)?,
                Route::Batch => {
                    self.keep_and_prefill(item)?;
                    forks.extend(item.endings.iter().map(|ending| (i, self.base.fork(), ending.as_slice())));
                    Scores::default()
                }
            });
        }
        self.score_forks(&mut forks, &mut all)?;
        Ok(all)
    }

    /// Scores a batch like [`Scorer::shared`], but evaluates the context anew for each
    /// ending. It is the baseline for measuring the gain by sharing.
    ///
    /// # Errors
    /// The errors of [`Engine::score`].
    pub(super) fn apart(&mut self, batch: &[Encoded]) -> Result<Vec<Scores>> {
        let mut sessions = Vec::new();
        let mut all = Vec::with_capacity(batch.len());
        for (i, item) in batch.iter().enumerate() {
            self.base.truncate(0);
            all.push(match self.route(item) {
                Route::Logits => {
                    let mut logprobs = Vec::with_capacity(item.endings.len());
                    for ending in &item.endings {
                        self.base.truncate(0);
                        self.tokens += item.context.len() as u64;
                        logprobs.push(logprob(self.base.advance(&item.context)?, ending[0])?);
                    }
                    Scores { logprobs, greedy: None }
                }
                Route::Cut => self.cut(item)?,
                Route::Detailed => self.detailed(item)?,
                Route::Batch => {
                    for ending in &item.endings {
                        let mut session = self.session();
                        session.prefill(&item.context)?;
                        self.tokens += item.context.len() as u64;
                        sessions.push((i, session, ending.as_slice()));
                    }
                    Scores::default()
                }
            });
        }
        self.score_forks(&mut sessions, &mut all)?;
        Ok(all)
    }

    /// Returns the number of tokens that [`Scorer::apart`] evaluates for a question.
    pub(super) fn tokens_apart(&self, item: &Encoded) -> u64 {
        let context = item.context.len();
        let of = |ending: &Vec<u32>| match self.route(item) {
            Route::Logits => context,
            Route::Cut => (context + ending.len() - 1).min(self.engine.n_ctx()),
            Route::Detailed | Route::Batch => context + ending.len() + 1,
        };
        item.endings.iter().map(|ending| of(ending) as u64).sum()
    }

    /// Scores the endings of several questions in shared passes. The last token of each
    /// context is evaluated again with every ending, because its logits score the
    /// ending's first token.
    fn score_forks(&mut self, forks: &mut [(usize, Session, &[u32])], all: &mut [Scores]) -> Result<()> {
        if forks.is_empty() {
            return Ok(());
        }
        self.tokens += forks.iter().map(|(_, _, ending)| ending.len() as u64 + 1).sum::<u64>();
        let mut requests: Vec<(&mut Session, &[u32])> =
            forks.iter_mut().map(|(_, session, ending)| (session, *ending)).collect();
        let logprobs = self.engine.score(&mut requests)?;
        for ((i, ..), logprobs) in forks.iter().zip(logprobs) {
            all[*i].logprobs.push(logprobs.into_iter().map(f64::from).sum());
        }
        Ok(())
    }

    fn keep_and_prefill(&mut self, item: &Encoded) -> Result<()> {
        let rest = keep_common(&mut self.base, &item.context, 0);
        self.tokens += rest.len() as u64;
        if rest.is_empty() { Ok(()) } else { self.base.prefill(rest) }
    }

    /// Scores a question, usually of one ending, and compares the ending with what the
    /// model would write.
    fn detailed(&mut self, item: &Encoded) -> Result<Scores> {
        self.keep_and_prefill(item)?;
        let (mut logprobs, mut greedy) = (Vec::with_capacity(item.endings.len()), None);
        for ending in &item.endings {
            self.base.truncate(item.context.len());
            self.tokens += ending.len() as u64 + 1;
            let scores = self.base.score_detailed(ending)?;
            greedy.get_or_insert(scores.iter().all(|score| score.rank == 0));
            logprobs.push(scores.iter().map(|score| f64::from(score.logprob)).sum());
        }
        Ok(Scores { logprobs, greedy })
    }

    /// Scores a question whose context is cut. Each ending keeps as many of the preceding
    /// tokens as fit the context, and its own last token is not evaluated (lm-eval's
    /// `_loglikelihood_tokens`).
    fn cut(&mut self, item: &Encoded) -> Result<Scores> {
        let (mut logprobs, mut greedy) = (Vec::with_capacity(item.endings.len()), None);
        for ending in &item.endings {
            let mut tokens = [item.context.as_slice(), ending].concat();
            tokens.drain(..tokens.len().saturating_sub(self.engine.n_ctx() + 1));
            let scored = tokens.len() - ending.len();
            let (context, inputs) = tokens[..tokens.len() - 1].split_at(scored - 1);
            self.tokens += tokens.len() as u64 - 1;
            self.base.truncate(0);
            if !context.is_empty() {
                self.base.prefill(context)?;
            }
            let (mut sum, mut best) = (0.0, true);
            self.base.advance_each(inputs, |i, logits| {
                let target = tokens[scored + i];
                sum += logprob(logits, target)?;
                best &= token_logprobs(logits, target, 1)?.top.first().is_some_and(|top| top.0 == target);
                Ok(())
            })?;
            logprobs.push(sum);
            greedy.get_or_insert(best);
        }
        Ok(Scores { logprobs, greedy: greedy.filter(|_| self.greedy) })
    }
}

/// Truncates `session` to its common prefix with `context`, without the last `rerun`
/// tokens of `context`, and returns the rest of `context`.
fn keep_common<'c>(session: &mut Session, context: &'c [u32], rerun: usize) -> &'c [u32] {
    let common = session.tokens().iter().zip(context).take_while(|(a, b)| a == b).count();
    let common = common.min(context.len() - rerun);
    session.truncate(common);
    &context[common..]
}

fn logprob(logits: &[f32], token: u32) -> Result<f64> {
    Ok(0.0 - negative_log_likelihood(logits, token)?)
}
