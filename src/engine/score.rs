//! Log-probabilities of given continuations.
//!
//! The session's last token runs again, for the logits after it. The head processes as
//! many rows at a time as its buffer can hold, in one submit. Only the scores are read
//! back. The last token of each continuation scores nothing. Its row comes after all
//! others, and the head skips it. If a fork shares a page that is written again, the page
//! is copied.

use std::sync::Arc;

use super::bound::{Entered, enter_with};
use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::kernels::PAGE_SIZE;
pub use crate::kernels::score::TokenScore;
use crate::model::{ScoredSequence, Scores, Sequence};

/// Rows of one sequence that run in one pass. Row i holds the token before the
/// continuation's token i; the last row holds the continuation's last token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Index of the request.
    request: usize,
    /// First row of the part.
    begin: usize,
    /// End of the rows, exclusive.
    end: usize,
}

/// Capacity of a pass.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    /// Maximum rows of a single sequence.
    chunk: usize,
    /// Maximum total rows of several sequences.
    packed: usize,
    /// Maximum total pages of several sequences.
    pages: usize,
}

impl Session {
    /// Returns the natural log-probability of each of `tokens`, given everything before it,
    /// and adds the tokens to the session. One number per token is read back from the GPU.
    ///
    /// The session must hold at least one token, because a text's first token has no
    /// context. The session's last token runs again, for its logits. A token whose logit is
    /// minus infinity has log-probability minus infinity. Log-probabilities are computed
    /// from f32 logits, within 1e-5 of an f64 softmax over them.
    ///
    /// # Errors
    /// [`Error::Input`] if the session or the continuation is empty, for a token outside
    /// the vocabulary, if the context is too short, and for logits that are NaN or
    /// infinite; [`Error::Limits`], [`Error::Gpu`] from the device; [`Error::Cancelled`]
    /// by the flag of [`Session::set_cancel`]; [`Error::Timeout`] by
    /// [`Session::set_deadline`]. Both are checked between chunks. After an error the
    /// session is unchanged.
    pub fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut logprobs = Vec::with_capacity(tokens.len());
        self.score_into(tokens, Scores::Logprobs(&mut logprobs))?;
        Ok(logprobs)
    }

    /// Like [`Session::score`], but also returns each token's rank and the most probable
    /// token at its position. Four numbers per token are read back.
    ///
    /// # Errors
    /// As [`Session::score`].
    pub fn score_detailed(&mut self, tokens: &[u32]) -> Result<Vec<TokenScore>> {
        let mut scores = Vec::with_capacity(tokens.len());
        self.score_into(tokens, Scores::Details(&mut scores))?;
        Ok(scores)
    }

    fn score_into(&mut self, tokens: &[u32], mut scores: Scores<'_>) -> Result<()> {
        let rows = self.score_rows(tokens)?;
        let first = self.len() - 1;
        let shared = Arc::clone(&self.shared);
        let chunk = shared.chunk_rows(shared.n_ctx);
        let result = (0..rows.len()).step_by(chunk).try_for_each(|begin| {
            self.check_cancel()?;
            let end = rows.len().min(begin + chunk);
            let Entered { mut forward, bound } = match begin {
                0 => enter_with(&shared, &mut [self])?,
                _ => shared.enter(),
            };
            let sequence =
                Sequence { pages: &mut self.pages, position: first + begin, tokens: &rows[begin..end] };
            let targets = &tokens[begin..end.min(tokens.len())];
            let sequences = &mut [ScoredSequence { sequence, targets }];
            forward.score(&bound.model, sequences, scores.reborrow())
        });
        self.finish_score(tokens, &result);
        result
    }

    /// Checks a continuation and returns the tokens of its rows: the session's last token,
    /// followed by the continuation.
    fn score_rows(&self, tokens: &[u32]) -> Result<Vec<u32>> {
        let Some(&last) = self.tokens.last() else {
            return Err(Error::input(
                "the session has no tokens, and the first token of a text has no context to be scored in: \
                 run it, or the token that begins a text, with prefill",
            ));
        };
        if tokens.is_empty() {
            return Err(Error::input("there is no token to score: the continuation is empty"));
        }
        self.check(tokens)?;
        Ok([&[last], tokens].concat())
    }

    /// Adds the tokens of a scored continuation to the session. After an error, drops the
    /// pages that were taken for them instead.
    fn finish_score(&mut self, tokens: &[u32], result: &Result<()>) {
        if result.is_ok() {
            self.tokens.extend_from_slice(tokens);
        } else {
            let shared = Arc::clone(&self.shared);
            self.drop_unused_pages(&mut shared.lock());
        }
    }
}

impl Engine {
    /// Like [`Session::score`], for several sessions, each with its own continuation.
    /// Their rows run in shared passes, so short continuations fill the GPU. Sessions
    /// that were forked from one session share the pages of its context.
    ///
    /// The log-probabilities are those of [`Session::score`], bit for bit. The exception
    /// is a matrix kernel whose sums depend on the number of rows, selected by tuning or
    /// by `--variant`. [`crate::model::ModelOptions::deterministic`] excludes such
    /// kernels.
    ///
    /// # Errors
    /// As [`Session::score`], naming the request; [`Error::Input`] also for a session of
    /// another engine; [`Error::Cancelled`] if the flag of any session is raised;
    /// [`Error::Timeout`] if the deadline of any session has passed. After an error all
    /// sessions are unchanged.
    pub fn score(&self, requests: &mut [(&mut Session, &[u32])]) -> Result<Vec<Vec<f32>>> {
        let rows = self.check_scores(requests)?;
        let dims = &self.shared.bound().dims;
        let chunk = self.shared.chunk_rows(dims.n_ctx);
        let capacity = Capacity { chunk, packed: dims.packed.min(chunk), pages: dims.page_table_entries() };
        let lens: Vec<(usize, usize)> =
            requests.iter().zip(&rows).map(|((session, _), rows)| (session.len() - 1, rows.len())).collect();
        let mut sessions: Vec<&mut Session> =
            requests.iter_mut().map(|(session, _)| &mut **session).collect();
        drop(enter_with(&self.shared, &mut sessions)?);
        let mut logprobs: Vec<Vec<f32>> =
            requests.iter().map(|(_, tokens)| Vec::with_capacity(tokens.len())).collect();
        let result = passes(&lens, capacity)
            .iter()
            .try_for_each(|pass| self.score_pass(requests, &rows, pass, &mut logprobs));
        for (session, tokens) in requests.iter_mut() {
            session.finish_score(tokens, &result);
        }
        result.map(|()| logprobs)
    }

    /// Checks the requests and returns the tokens of each request's rows.
    fn check_scores(&self, requests: &[(&mut Session, &[u32])]) -> Result<Vec<Vec<u32>>> {
        let rows = requests.iter().enumerate().map(|(i, (session, tokens))| {
            if !Arc::ptr_eq(&session.shared, &self.shared) {
                return Err(Error::input(format!(
                    "the session of request {i} belongs to another engine: score it with the engine that \
                     created it"
                )));
            }
            session.score_rows(tokens).map_err(|error| Error::input(format!("request {i}: {error}")))
        });
        rows.collect()
    }

    /// Runs one pass and appends its log-probabilities to `logprobs`.
    fn score_pass(
        &self,
        requests: &mut [(&mut Session, &[u32])],
        rows: &[Vec<u32>],
        pass: &[Part],
        logprobs: &mut [Vec<f32>],
    ) -> Result<()> {
        requests.iter().try_for_each(|(session, _)| session.check_cancel())?;
        let mut parts = pass.iter().peekable();
        let mut sequences = Vec::with_capacity(pass.len());
        for (i, (session, tokens)) in requests.iter_mut().enumerate() {
            let Some(part) = parts.next_if(|part| part.request == i) else { continue };
            let sequence = Sequence {
                position: session.tokens.len() - 1 + part.begin,
                pages: &mut session.pages,
                tokens: &rows[i][part.begin..part.end],
            };
            let targets = &tokens[part.begin..part.end.min(tokens.len())];
            sequences.push(ScoredSequence { sequence, targets });
        }
        let mut all = Vec::new();
        let Entered { mut forward, bound } = self.shared.enter();
        let scores = Scores::Logprobs(&mut all);
        forward.score(&bound.model, &mut sequences, scores)?;
        let mut rest = &all[..];
        for (part, sequence) in pass.iter().zip(&sequences) {
            let (own, after) = rest.split_at(sequence.targets.len());
            logprobs[part.request].extend_from_slice(own);
            rest = after;
        }
        Ok(())
    }
}

/// Divides sequences, given as (position, rows), into passes. Each whole chunk of a
/// sequence gets its own pass. The remaining rows of several sequences share passes while
/// they fit. The parts of one sequence are in ascending order of pass. Within a pass, the
/// parts are in the order of the sequences.
fn passes(lens: &[(usize, usize)], capacity: Capacity) -> Vec<Vec<Part>> {
    let mut passes = Vec::new();
    let mut open: Vec<Part> = Vec::new();
    let (mut n_rows, mut n_pages) = (0, 0);
    for (request, &(position, len)) in lens.iter().enumerate() {
        let mut begin = 0;
        while len - begin >= capacity.chunk {
            let end = begin + capacity.chunk;
            passes.push(vec![Part { request, begin, end }]);
            begin = end;
        }
        let rest = len - begin;
        if rest == 0 {
            continue;
        }
        let pages = (position + len).div_ceil(PAGE_SIZE);
        if n_rows + rest > capacity.packed || n_pages + pages > capacity.pages {
            passes.push(std::mem::take(&mut open));
            (n_rows, n_pages) = (0, 0);
        }
        open.push(Part { request, begin, end: len });
        n_rows += rest;
        n_pages += pages;
    }
    passes.push(open);
    passes.retain(|pass| !pass.is_empty());
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens_of(passes: &[Vec<Part>]) -> Vec<Vec<(usize, usize)>> {
        passes.iter().map(|pass| pass.iter().map(|p| (p.request, p.end - p.begin)).collect()).collect()
    }

    #[test]
    fn passes_contain_every_row_once_and_in_order() {
        let capacity = Capacity { chunk: 32, packed: 24, pages: 20 };
        let lens: Vec<(usize, usize)> =
            (0..60).map(|i| (i * 37 % 90, 1 + i * 13 % if i % 7 == 0 { 100 } else { 20 })).collect();
        let passes = passes(&lens, capacity);
        let mut next = vec![0; lens.len()];
        for pass in &passes {
            assert!(pass.windows(2).all(|pair| pair[0].request < pair[1].request));
            let rows: usize = pass.iter().map(|part| part.end - part.begin).sum();
            let pages: usize =
                pass.iter().map(|part| (lens[part.request].0 + lens[part.request].1).div_ceil(16)).sum();
            let most = if pass.len() == 1 { capacity.chunk } else { capacity.packed };
            assert!(rows > 0 && rows <= most && (pages <= capacity.pages || pass.len() == 1), "{pass:?}");
            for part in pass {
                assert_eq!(part.begin, next[part.request]);
                next[part.request] = part.end;
            }
        }
        assert!(next.iter().zip(&lens).all(|(next, (_, len))| next == len));
    }

    #[test]
    fn passes_are_as_few_as_possible() {
        let capacity = Capacity { chunk: 32, packed: 32, pages: 100 };
        assert_eq!(
            lens_of(&passes(&[(99, 8); 9], capacity)),
            [vec![(0, 8), (1, 8), (2, 8), (3, 8)], vec![(4, 8), (5, 8), (6, 8), (7, 8)], vec![(8, 8)],]
        );
        // Each sequence has 7 pages.
        let few = Capacity { pages: 15, ..capacity };
        assert_eq!(lens_of(&passes(&[(99, 8); 3], few)), [vec![(0, 8), (1, 8)], vec![(2, 8)]]);
        // The chunks of a long sequence come first, then its remainder with the others.
        assert_eq!(
            lens_of(&passes(&[(0, 2), (5, 70), (5, 32)], capacity)),
            [vec![(1, 32)], vec![(1, 32)], vec![(2, 32)], vec![(0, 2), (1, 6)],]
        );
        assert!(passes(&[], capacity).is_empty());
    }
}
