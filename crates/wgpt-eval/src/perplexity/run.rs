//! Evaluation of windows by the engine.

use super::windows::Window;
use super::{Document, PerplexityOptions};
use wgpt::{Engine, Result, Session, TokenScore, token_logprobs};

/// Scores of one window's tokens.
pub(super) struct Scores {
    /// Natural log-probability of each token.
    pub logprobs: Vec<f32>,
    /// Detailed score of each token, if requested.
    pub details: Vec<TokenScore>,
}

/// Runs batches of windows.
pub(super) struct Runner<'a> {
    engine: &'a Engine,
    documents: &'a [Document],
    options: &'a PerplexityOptions,
    /// Session that holds only the begin-of-text token. The token is evaluated once and
    /// shared by all windows that begin with it.
    root: Option<Session>,
}

impl<'a> Runner<'a> {
    pub fn new(engine: &'a Engine, documents: &'a [Document], options: &'a PerplexityOptions) -> Self {
        Runner { engine, documents, options, root: None }
    }

    /// Returns the scores of each window.
    ///
    /// # Errors
    /// Errors of the device, and [`wgpt::Error::Cancelled`].
    pub fn run(&mut self, batch: &[Window]) -> Result<Vec<Scores>> {
        let mut sessions = batch.iter().map(|window| self.begin(window)).collect::<Result<Vec<_>>>()?;
        if self.options.tokens {
            return sessions.iter_mut().zip(batch).map(|(session, w)| self.detailed(session, w)).collect();
        }
        // A window whose only scored token is beyond the context needs no request.
        let mut requests: Vec<(&mut Session, &[u32])> = sessions
            .iter_mut()
            .zip(batch)
            .map(|(session, window)| (session, self.targets(window).0))
            .filter(|(_, tokens)| !tokens.is_empty())
            .collect();
        let mut scores = self.engine.score(&mut requests)?.into_iter();
        let mut all = Vec::with_capacity(batch.len());
        for (session, window) in sessions.iter_mut().zip(batch) {
            let (tokens, beyond) = self.targets(window);
            let mut logprobs = if tokens.is_empty() { Vec::new() } else { scores.next().unwrap_or_default() };
            if let Some(token) = beyond {
                logprobs.push(score_beyond(session, token)?.logprob);
            }
            all.push(Scores { logprobs, details: Vec::new() });
        }
        Ok(all)
    }

    fn detailed(&self, session: &mut Session, window: &Window) -> Result<Scores> {
        let (tokens, beyond) = self.targets(window);
        let mut details = if tokens.is_empty() { Vec::new() } else { session.score_detailed(tokens)? };
        if let Some(token) = beyond {
            details.push(score_beyond(session, token)?);
        }
        Ok(Scores { logprobs: details.iter().map(|score| score.logprob).collect(), details })
    }

    /// Returns the tokens to score. A window of protocol lm-eval may be one token longer
    /// than the context. Its last token is then predicted but never evaluated, and is
    /// returned separately.
    fn targets(&self, window: &Window) -> (&'a [u32], Option<u32>) {
        let tokens = &self.documents[window.document].tokens[window.scored.clone()];
        match tokens.split_last() {
            Some((&last, rest)) if window.n_context() + tokens.len() > self.engine.n_ctx() => {
                (rest, Some(last))
            }
            _ => (tokens, None),
        }
    }

    /// Returns a session that holds the context of a window.
    fn begin(&mut self, window: &Window) -> Result<Session> {
        let context = &self.documents[window.document].tokens[window.context.clone()];
        if let (Some(bos), []) = (window.bos, context) {
            let root = match self.root.take() {
                Some(root) => root,
                None => self.filled(&[bos])?,
            };
            return Ok(self.root.insert(root).fork());
        }
        let bos: &[u32] = window.bos.as_slice();
        self.filled(&[bos, context].concat())
    }

    fn filled(&self, tokens: &[u32]) -> Result<Session> {
        let mut session = self.engine.session();
        if let Some(flag) = &self.options.cancel {
            session.set_cancel(flag.clone());
        }
        session.prefill(tokens)?;
        Ok(session)
    }
}

/// Scores the token after a full context by evaluating the context's last token again.
fn score_beyond(session: &mut Session, token: u32) -> Result<TokenScore> {
    let last = session.len() - 1;
    let input = session.tokens()[last];
    session.truncate(last);
    let logits = session.advance(&[input])?;
    let found = token_logprobs(logits, token, 1)?;
    let above = |(id, &other): (usize, &f32)| {
        let logit = logits[token as usize];
        other > logit || (other == logit && id < token as usize)
    };
    let rank = logits.iter().enumerate().filter(|&row| above(row)).count() as u32;
    let (best, best_logprob) = found.top.first().copied().unwrap_or((token, found.logprob));
    Ok(TokenScore { logprob: found.logprob, rank, best, best_logprob })
}
