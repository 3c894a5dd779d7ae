//! Prompt-lookup decoding: draft tokens are copied from the text so far and verified by the
//! model in one pass.
//!
//! Apoorv Saxena, "Prompt Lookup Decoding" (2023); transformers'
//! `prompt_lookup_num_tokens`. A repetitive text (a summary, code, a story's names) often
//! continues as it did before. Reading the weights limits the speed of decoding, so a
//! pass over the last token and the drafts costs little more than a pass over one row.
//! Drafts that the model would have chosen are kept; the rest are removed.

use std::collections::{HashMap, VecDeque};

use super::Session;
use crate::error::{Error, Result};

/// The longest n-gram that is looked up: Saxena's 3. A longer match predicts the next
/// token better but is rarer.
const NGRAM_MAX: usize = 3;

/// Statistics of prompt-lookup decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupStats {
    /// Passes in which the model chose tokens, including the prompt's last pass. Each
    /// yields one token more than it accepts.
    pub passes: usize,
    /// Draft tokens that were proposed.
    pub drafted: usize,
    /// Draft tokens that the model chose too.
    pub accepted: usize,
}

/// Maps each n-gram to its latest occurrence.
///
/// A scan of the whole text for every draft would take quadratic time in total. With the
/// index, a token costs [`NGRAM_MAX`] insertions, and a draft costs [`NGRAM_MAX`]
/// look-ups.
#[derive(Debug, Default)]
struct NgramIndex {
    /// Indexed by length minus one: maps an n-gram, padded with zeros, to the position of
    /// the token after its latest occurrence.
    latest: [HashMap<[u32; NGRAM_MAX], usize>; NGRAM_MAX],
    /// Number of tokens indexed so far; each of them has a successor.
    followed: usize,
}

fn key(ngram: &[u32]) -> [u32; NGRAM_MAX] {
    let mut key = [0; NGRAM_MAX];
    key[..ngram.len()].copy_from_slice(ngram);
    key
}

impl NgramIndex {
    /// Indexes the new tokens of `history`. It leaves out the n-gram at the very end,
    /// which would match itself.
    fn update(&mut self, history: &[u32]) {
        let followed = history.len().saturating_sub(1);
        for end in self.followed + 1..=followed {
            for (n, latest) in (1..=end.min(NGRAM_MAX)).zip(&mut self.latest) {
                latest.insert(key(&history[end - n..end]), end);
            }
        }
        self.followed = followed.max(self.followed);
    }

    /// Finds the longest n-gram that ends `history` and also occurred before. Appends the
    /// `n` tokens that followed it to `out`. If the copy reaches the end of the history,
    /// it continues with the tokens just copied, as in LZ77. A periodic text thus
    /// continues its period.
    fn draft(&mut self, history: &[u32], n: usize, out: &mut Vec<u32>) {
        self.update(history);
        let longest = history.len().min(NGRAM_MAX);
        let found = (1..=longest).rev().find_map(|n| {
            let ngram = &history[history.len() - n..];
            self.latest[n - 1].get(&key(ngram)).copied()
        });
        let Some(from) = found else { return };
        let begin = out.len();
        for at in from..from + n {
            let token = match history.get(at) {
                Some(&token) => token,
                None => out[begin + at - history.len()],
            };
            out.push(token);
        }
    }
}

/// The token source of greedy decoding with drafts: several tokens per pass.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Maximum number of tokens in a draft.
    draft_len: usize,
    index: NgramIndex,
    /// The last token and its draft, one row each.
    rows: Vec<u32>,
    /// The model's choice after each row.
    choices: Vec<u32>,
    /// Chosen tokens that were not returned yet.
    ready: VecDeque<u32>,
    stats: LookupStats,
}

impl Lookup {
    /// Creates the source for drafts of at most `draft_len` tokens.
    ///
    /// # Errors
    /// [`Error::Input`] if `draft_len` is 0 or exceeds the rows of a pass minus one.
    pub(super) fn new(session: &Session, draft_len: usize) -> Result<Self> {
        let rows = session.shared.bound().dims.batch;
        if draft_len == 0 || draft_len >= rows {
            return Err(Error::input(format!(
                "prompt lookup: drafts of {draft_len} tokens: expected 1 to {} with this model and these \
                 options, since a pass verifies {rows} rows",
                rows - 1
            )));
        }
        Ok(Lookup {
            draft_len,
            index: NgramIndex::default(),
            rows: Vec::with_capacity(rows),
            choices: Vec::with_capacity(rows),
            ready: VecDeque::with_capacity(rows),
            stats: LookupStats::default(),
        })
    }

    pub(super) fn stats(&self) -> LookupStats {
        self.stats
    }

    /// Whether the next token is already chosen. It then needs no pass and no further
    /// position in the context.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the next token of greedy decoding. `pending` holds the tokens of `history`
    /// that the session has not evaluated; it is not used if a token is ready. `most` is
    /// the number of tokens still wanted.
    ///
    /// # Errors
    /// As [`Session::advance_greedy`].
    pub(super) fn next(
        &mut self,
        session: &mut Session,
        pending: &[u32],
        history: &[u32],
        most: usize,
    ) -> Result<u32> {
        if let Some(token) = self.ready.pop_front() {
            return Ok(token);
        }
        self.stats.passes += 1;
        let &[last] = pending else { return session.advance_greedy(pending) };
        self.rows.clear();
        self.rows.push(last);
        // A pass chooses one token more than it accepts.
        let limit = session.free_positions().saturating_sub(1).min(most.saturating_sub(1));
        self.index.draft(history, self.draft_len.min(limit), &mut self.rows);
        let drafts = self.rows.len() - 1;
        self.stats.drafted += drafts;
        if drafts == 0 {
            return session.advance_greedy(pending);
        }
        match self.verify(session) {
            // The overflow may come from a draft that the model would not have chosen.
            Err(Error::Overflow { .. }) => session.advance_greedy(pending),
            choice => choice,
        }
    }

    /// Runs all rows, keeps the drafts that the model chose too, and returns its first
    /// choice.
    fn verify(&mut self, session: &mut Session) -> Result<u32> {
        let before = session.len();
        session.advance_greedy_rows(&self.rows, &mut self.choices)?;
        let drafts = &self.rows[1..];
        let accepted = drafts.iter().zip(&self.choices).take_while(|(draft, choice)| draft == choice).count();
        session.truncate(before + 1 + accepted);
        self.stats.accepted += accepted;
        self.ready.extend(&self.choices[1..=accepted]);
        Ok(self.choices[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the draft by scanning the whole history.
    fn naive(history: &[u32], n: usize) -> Vec<u32> {
        for len in (1..=NGRAM_MAX.min(history.len())).rev() {
            let ngram = &history[history.len() - len..];
            for end in (len..history.len()).rev() {
                if &history[end - len..end] == ngram {
                    let mut all = history.to_vec();
                    (0..n).for_each(|i| all.push(all[end + i]));
                    return all.split_off(history.len());
                }
            }
        }
        Vec::new()
    }

    fn draft(history: &[u32], n: usize) -> Vec<u32> {
        let mut out = Vec::new();
        NgramIndex::default().draft(history, n, &mut out);
        out
    }

    #[test]
    fn a_draft_continues_the_longest_and_newest_match() {
        assert!(draft(&[], 4).is_empty());
        assert!(draft(&[5], 4).is_empty());
        assert!(draft(&[1, 2, 3], 4).is_empty());
        // A match of one token: the latest occurrence wins.
        assert_eq!(draft(&[7, 1, 7, 2, 9, 7], 2), [2, 9]);
        // A match of two tokens wins over a newer match of one.
        assert_eq!(draft(&[6, 7, 1, 8, 7, 2, 6, 7], 2), [1, 8]);
        // A period continues beyond the history.
        assert_eq!(draft(&[4, 4], 3), [4, 4, 4]);
        assert_eq!(draft(&[1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
        // Token 0 is a valid token, not the padding of the key.
        assert_eq!(draft(&[0, 0, 5, 0], 1), [0, 5][1..]);
        assert!(draft(&[3, 1, 3], 0).is_empty());
    }

    #[test]
    fn the_index_grows_with_the_history_and_agrees_with_a_scan() {
        let mut state = 1_u32;
        for vocab_size in [2, 3, 10, 100] {
            let (mut index, mut history, mut found) = (NgramIndex::default(), Vec::new(), 0);
            for step in 0..400 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                history.push((state >> 16) % vocab_size);
                // Some tokens are added without a draft in between.
                if step % 3 != 0 {
                    let mut out = vec![77];
                    index.draft(&history, 5, &mut out);
                    assert_eq!(out[1..], naive(&history, 5), "{history:?}");
                    found += usize::from(out.len() > 1);
                }
            }
            assert!(found > 100, "{found} drafts");
            let entries: usize = index.latest.iter().map(HashMap::len).sum();
            assert!(entries <= NGRAM_MAX * history.len());
        }
    }
}
