//! Log-probabilities of endings, with the context that they share computed once.

use super::encode::Encoded;
use crate::engine::{CancelFlag, Engine, Session};
use crate::error::Result;
use crate::sampling::{negative_log_likelihood, token_logprobs};

/// What the model gives the endings of a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scores {
    /// The sum of log-probabilities of each ending's tokens.
    pub(super) logprobs: Vec<f64>,
    /// Whether the first ending is what the model would have written; where asked.
    pub(super) greedy: Option<bool>,
}

/// How a question is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Endings of one token: the logits behind the context have them all.
    Logits,
    /// Sessions behind the context, an ending each, with those of other questions.
    Batch,
    /// By itself, with the most probable tokens.
    Detailed,
    /// What does not fit, by itself from the logits, each ending with what precedes it.
    Cut,
}

/// Scores questions and counts the tokens that it runs through the model.
pub(super) struct Scorer<'e> {
    engine: &'e Engine,
    /// Holds the last context: the next one keeps what they have in common, as MMLU's
    /// shots.
    base: Session,
    cancel: Option<CancelFlag>,
    /// Whether [`Scores::greedy`] is wanted.
    greedy: bool,
    /// Tokens run so far.
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

    /// Scores a batch: each context runs once, its endings follow in forks of its
    /// session, those of all questions together.
    ///
    /// # Errors
    /// As [`Engine::score`].
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

    /// As [`Scorer::shared`], but each ending has a session with a context of its own:
    /// what sharing is measured against.
    ///
    /// # Errors
    /// As [`Engine::score`].
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

    /// The tokens that [`Scorer::apart`] runs for a question.
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
    /// context runs again with every ending: its logits give the first token.
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

    /// A question of one ending that is compared with what the model would write.
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

    /// A question whose context is cut: each ending keeps the tokens in front of it that
    /// fill the context, and its own last token is no input (lm-eval's
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

/// Leaves in `session` what it has in common with `context`, but for the last `rerun`
/// tokens of it; returns the rest.
fn keep_common<'c>(session: &mut Session, context: &'c [u32], rerun: usize) -> &'c [u32] {
    let common = session.tokens().iter().zip(context).take_while(|(a, b)| a == b).count();
    let common = common.min(context.len() - rerun);
    session.truncate(common);
    &context[common..]
}

fn logprob(logits: &[f32], token: u32) -> Result<f64> {
    Ok(0.0 - negative_log_likelihood(logits, token)?)
}
