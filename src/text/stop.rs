//! Strings that end a text.

use crate::error::{Error, Result};

/// A search for stop strings in growing text, across the boundaries of its pieces.
///
/// Text that may be the beginning of a stop string is held back until later pieces
/// decide. The result does not depend on the division of the text. The stop string that
/// ends first wins. If several end together, the longest wins.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    /// Text not yet returned: a proper prefix of a stop string.
    held: String,
    stopped: Option<usize>,
}

impl StopStrings {
    /// Creates a search for `stops`, which may be empty.
    ///
    /// # Errors
    /// [`Error::Input`] if a stop string is empty.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> Result<Self> {
        let stops: Vec<String> = stops.into_iter().map(Into::into).collect();
        if let Some(i) = stops.iter().position(String::is_empty) {
            let n = stops.len();
            return Err(Error::input(format!(
                "stop string {} of {n} is empty: it would end every text",
                i + 1
            )));
        }
        Ok(StopStrings { stops, held: String::new(), stopped: None })
    }

    /// Adds a piece of text. Returns the text that is now safe to output and, once a stop
    /// string is complete, its index in the list. The stop string and everything after it
    /// are not returned, and later pieces are ignored.
    pub fn push(&mut self, piece: &str) -> (String, Option<usize>) {
        if self.stopped.is_some() {
            return (String::new(), self.stopped);
        }
        let seen = self.held.len();
        self.held.push_str(piece);
        if let Some((stop, start)) = self.first_stop(seen) {
            self.stopped = Some(stop);
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), Some(stop));
        }
        let kept = self.held.split_off(self.undecided());
        (std::mem::replace(&mut self.held, kept), None)
    }

    /// Ends the text and returns the held-back text. The search then starts over.
    pub fn finish(&mut self) -> String {
        self.stopped = None;
        std::mem::take(&mut self.held)
    }

    /// Returns the index and the start of the stop string that ends first after `seen`
    /// bytes.
    fn first_stop(&self, seen: usize) -> Option<(usize, usize)> {
        let text = &self.held;
        let ends = text[seen..].char_indices().map(|(i, c)| seen + i + c.len_utf8());
        for end in ends {
            let ending = self.stops.iter().enumerate().filter(|(_, s)| text[..end].ends_with(s.as_str()));
            // The earliest start is the longest string. Among equal strings, the first in
            // the list wins.
            if let Some((stop, start)) =
                ending.map(|(i, s)| (i, end - s.len())).min_by_key(|&(i, start)| (start, i))
            {
                return Some((stop, start));
            }
        }
        None
    }

    /// Returns the start of the longest suffix of the text that can begin a stop string.
    fn undecided(&self) -> usize {
        let text = &self.held;
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = text.len().saturating_sub(longest);
        let starts = (from..text.len()).filter(|&i| text.is_char_boundary(i));
        let begins = |&i: &usize| self.stops.iter().any(|s| s.starts_with(&text[i..]));
        starts.into_iter().find(begins).unwrap_or(text.len())
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, Option<usize>) {
        let mut watch = StopStrings::new(stops.iter().copied()).unwrap();
        let mut text = String::new();
        let mut stopped = None;
        for piece in pieces {
            let (out, stop) = watch.push(piece);
            text.push_str(&out);
            stopped = stop;
        }
        text.push_str(&watch.finish());
        (text, stopped)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_omitted() {
        assert_eq!(run(&["STOP"], ["abc S", "T", "OP def", "ghi"]), ("abc ".into(), Some(0)));
        assert_eq!(run(&["x", "\n\n"], ["one\n", "\ntwo"]), ("one".into(), Some(1)));
        assert_eq!(run(&["日本"], ["a日", "本b"]), ("a".into(), Some(0)));
        assert_eq!(run(&["aab"], ["a", "a", "a", "b"]), ("a".into(), Some(0)));
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut watch = StopStrings::new(["STOP", "日本"]).unwrap();
        assert_eq!(watch.push("abc ST"), ("abc ".into(), None));
        assert_eq!(watch.push("ART S"), ("START ".into(), None));
        assert_eq!(watch.push("x日"), ("Sx".into(), None));
        assert_eq!(watch.push("日月"), ("日日月".into(), None));
        assert_eq!(watch.push("STO"), (String::new(), None));
        assert_eq!(watch.finish(), "STO");
    }

    #[test]
    fn nothing_is_held_back_without_stop_strings() {
        let mut watch = StopStrings::new(Vec::<String>::new()).unwrap();
        assert_eq!(watch.push("any text"), ("any text".into(), None));
        assert_eq!(watch.finish(), "");
    }

    #[test]
    fn nothing_is_returned_after_a_stop() {
        let mut watch = StopStrings::new(["."]).unwrap();
        assert_eq!(watch.push("a.b.c"), ("a".into(), Some(0)));
        assert_eq!(watch.push("d"), (String::new(), Some(0)));
        assert_eq!(watch.finish(), "");
        assert_eq!(watch.push("e"), ("e".into(), None));
    }

    #[test]
    fn the_first_stop_string_to_end_wins_then_the_longest() {
        assert_eq!(run(&["abcd", "bc"], ["xabcd"]), ("xa".into(), Some(1)));
        assert_eq!(run(&["c", "abc", "bc", "abc"], ["xabcd"]), ("x".into(), Some(1)));
    }

    #[test]
    fn an_empty_stop_string_is_an_error() {
        let message = StopStrings::new(["a", ""]).unwrap_err().to_string();
        assert!(message.starts_with("stop string 2 of 2 is empty"), "{message}");
    }

    /// Tries every end and every stop string in turn, over the whole text.
    fn naive(stops: &[&str], text: &str) -> (String, Option<usize>) {
        for end in 0..=text.len() {
            let Some(before) = text.get(..end) else { continue };
            let mut found: Option<(usize, usize)> = None;
            for (i, stop) in stops.iter().enumerate() {
                if let Some(rest) = before.strip_suffix(stop)
                    && found.is_none_or(|(_, len)| rest.len() < len)
                {
                    found = Some((i, rest.len()));
                }
            }
            if let Some((i, len)) = found {
                return (text[..len].into(), Some(i));
            }
        }
        (text.into(), None)
    }

    #[test]
    fn any_division_into_pieces_gives_the_same_result() {
        const ALPHABET: [char; 4] = ['a', 'b', 'é', '日'];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
        let mut stopped = 0;
        for _ in 0..20_000 {
            let stops: Vec<String> = (0..below(4))
                .map(|_| (0..1 + below(4)).map(|_| ALPHABET[below(ALPHABET.len())]).collect())
                .collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<String> = (0..below(8))
                .map(|_| (0..below(4)).map(|_| ALPHABET[below(ALPHABET.len())]).collect())
                .collect();
            let expected = naive(&stops, &pieces.concat());
            stopped += usize::from(expected.1.is_some());
            assert_eq!(run(&stops, pieces.iter().map(String::as_str)), expected, "{stops:?} {pieces:?}");
        }
        assert!((4_000..18_000).contains(&stopped), "both outcomes are tested: {stopped}");
    }
}
