//! Prompt-lookup decoding: drafts copied from the text so far, verified by the
//! model in one pass.
//!
//! Apoorv Saxena, "Prompt Lookup Decoding" (2023); transformers'
//! `prompt_lookup_num_tokens`. A text that repeats itself (a summary, code, a
//! story's names) continues as it did before. Rows of the last token and of the
//! drafts cost little more than one row where decoding waits for the weights;
//! what the model would have chosen itself is kept, the rest is taken back.

use std::collections::{HashMap, VecDeque};

use super::Session;
use crate::error::{Error, Result};

/// The longest run of tokens that is looked for: Saxena's 3. A longer match is
/// followed by the same token more often, but is found less often.
const NGRAM_MAX: usize = 3;

/// What prompt-lookup decoding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupStats {
    /// Times that the model chose tokens, the prompt's last included: each choice
    /// brings one token more than it accepts.
    pub passes: usize,
    /// Tokens that were proposed.
    pub drafted: usize,
    /// Proposed tokens that the model chose too.
    pub accepted: usize,
}

/// Where each short run of tokens occurred last.
///
/// Scanning the text for every draft would cost its length each time, its square
/// in all; here a token costs [`NGRAM_MAX`] insertions, a draft as many look-ups.
#[derive(Debug, Default)]
struct NgramIndex {
    /// By length less one: the run, zeros behind it, and where its last
    /// occurrence is followed by a token.
    behind: [HashMap<[u32; NGRAM_MAX], usize>; NGRAM_MAX],
    /// Tokens that are known to be followed by another one.
    followed: usize,
}

fn key(ngram: &[u32]) -> [u32; NGRAM_MAX] {
    let mut key = [0; NGRAM_MAX];
    key[..ngram.len()].copy_from_slice(ngram);
    key
}

impl NgramIndex {
    /// Takes in what was added to `history`. Its own end is left out, so that it
    /// does not find itself.
    fn update(&mut self, history: &[u32]) {
        let followed = history.len().saturating_sub(1);
        for end in self.followed + 1..=followed {
            for (n, behind) in (1..=end.min(NGRAM_MAX)).zip(&mut self.behind) {
                behind.insert(key(&history[end - n..end]), end);
            }
        }
        self.followed = followed.max(self.followed);
    }

    /// Appends to `out` what followed the longest run that ends `history` and
    /// occurred before, `n` tokens. Where the copy reaches the history's end it goes
    /// on within itself, as LZ77's do: a period is continued.
    fn draft(&mut self, history: &[u32], n: usize, out: &mut Vec<u32>) {
        self.update(history);
        let longest = history.len().min(NGRAM_MAX);
        let found = (1..=longest).rev().find_map(|n| {
            let ngram = &history[history.len() - n..];
            self.behind[n - 1].get(&key(ngram)).copied()
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

/// Where the tokens of plain greedy decoding come from, several a pass.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Most tokens of a draft.
    draft_len: usize,
    index: NgramIndex,
    /// The last token and its draft, a row each.
    rows: Vec<u32>,
    /// The model's choice behind each row.
    choices: Vec<u32>,
    /// Chosen tokens that were not asked for yet.
    ready: VecDeque<u32>,
    stats: LookupStats,
}

impl Lookup {
    /// # Errors
    /// [`Error::Input`] for drafts of no token or of more than a pass has rows for.
    pub(super) fn new(session: &Session, draft_len: usize) -> Result<Self> {
        let rows = session.shared.bound().dims.batch;
        if draft_len == 0 || draft_len >= rows {
            return Err(Error::input(format!(
                "prompt lookup: drafts of {draft_len} tokens: at least 1, and at most {} with this model and \
                 these options, since a pass verifies {rows} rows",
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

    /// Whether the next token is chosen already: its pass needs no room.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next token of greedy decoding. `pending` is what the session has not
    /// seen of `history`, unless a token is ready; `most` tokens are wanted in all.
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
        let room = session.room().saturating_sub(1).min(most.saturating_sub(1));
        self.index.draft(history, self.draft_len.min(room), &mut self.rows);
        let drafts = self.rows.len() - 1;
        self.stats.drafted += drafts;
        if drafts == 0 {
            return session.advance_greedy(pending);
        }
        match self.verify(session) {
            // A draft that the model would not have chosen may be at fault.
            Err(Error::Overflow { .. }) => session.advance_greedy(pending),
            choice => choice,
        }
    }

    /// Runs all rows; keeps the drafts that the model chose as well, and returns its
    /// first choice.
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

    /// The draft by a scan of the whole history.
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
    fn a_draft_is_what_followed_the_longest_and_newest_match() {
        assert!(draft(&[], 4).is_empty());
        assert!(draft(&[5], 4).is_empty());
        assert!(draft(&[1, 2, 3], 4).is_empty());
        // One token in common, the newest occurrence.
        assert_eq!(draft(&[7, 1, 7, 2, 9, 7], 2), [2, 9]);
        // Two in common stand before one, though they are older.
        assert_eq!(draft(&[6, 7, 1, 8, 7, 2, 6, 7], 2), [1, 8]);
        // A period goes on beyond the history.
        assert_eq!(draft(&[4, 4], 3), [4, 4, 4]);
        assert_eq!(draft(&[1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
        // Token 0 is a token, not the key's filling.
        assert_eq!(draft(&[0, 0, 5, 0], 1), [0, 5][1..]);
        assert!(draft(&[3, 1, 3], 0).is_empty());
    }

    #[test]
    fn the_index_grows_with_the_history_and_finds_what_a_scan_finds() {
        let mut state = 1_u32;
        for vocab_size in [2, 3, 10, 100] {
            let (mut index, mut history, mut found) = (NgramIndex::default(), Vec::new(), 0);
            for step in 0..400 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                history.push((state >> 16) % vocab_size);
                // Not every token is followed by a draft.
                if step % 3 != 0 {
                    let mut out = vec![77];
                    index.draft(&history, 5, &mut out);
                    assert_eq!(out[1..], naive(&history, 5), "{history:?}");
                    found += usize::from(out.len() > 1);
                }
            }
            assert!(found > 100, "{found} drafts");
            let entries: usize = index.behind.iter().map(HashMap::len).sum();
            assert!(entries <= NGRAM_MAX * history.len());
        }
    }
}
