//! The model's surprise at each piece of the text.

use std::f32::consts::LN_2;
use std::ops::Range;

use crate::draft::Edit;
use crate::rate::Rating;

/// The surprise, in bits, at the end of the colour scale: one choice among 65,536.
pub const BITS_MAX: f32 = 16.0;

/// A piece of the text with one colour: a token, or several tokens that share a character.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Its byte range; whole characters.
    pub range: Range<usize>,
    /// Its tokens.
    pub tokens: Vec<Rating>,
}

impl Cell {
    /// -log2 of the joint probability of its tokens; `None` if one of them was not rated.
    #[must_use]
    pub fn bits(&self) -> Option<f32> {
        self.tokens.iter().map(|token| Some(-token.score.as_ref()?.logprob / LN_2)).sum()
    }
}

/// The cells of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heat {
    cells: Vec<Cell>,
}

impl Heat {
    /// Divides `text` into cells by its tokens. `None` if the tokens' bytes differ from the
    /// text, which happens if the tokenizer rewrites its input.
    #[must_use]
    pub fn new(text: &str, ratings: Vec<Rating>) -> Option<Self> {
        let mut cells: Vec<Cell> = Vec::new();
        let mut end = 0;
        for rating in ratings {
            let start = end;
            end += rating.bytes.len();
            if text.as_bytes().get(start..end) != Some(&rating.bytes[..]) {
                return None;
            }
            match cells.last_mut() {
                Some(cell) if !text.is_char_boundary(start) => {
                    cell.range.end = end;
                    cell.tokens.push(rating);
                }
                _ => cells.push(Cell { range: start..end, tokens: vec![rating] }),
            }
        }
        (end == text.len()).then_some(Heat { cells })
    }

    /// The cells, in order.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cell that contains a byte.
    #[must_use]
    pub fn at(&self, byte: usize) -> Option<&Cell> {
        let index = self.cells.partition_point(|cell| cell.range.end <= byte);
        self.cells.get(index).filter(|cell| cell.range.contains(&byte))
    }

    /// Adapts the cells to a change of the text. Cells that it touched are removed until
    /// the next rating.
    pub fn edited(&mut self, edit: Edit) {
        self.cells.retain(|cell| cell.range.end <= edit.start || cell.range.start >= edit.old_end);
        for cell in self.cells.iter_mut().filter(|cell| cell.range.start >= edit.old_end) {
            cell.range = edit.moved(cell.range.start)..edit.moved(cell.range.end);
        }
    }

    /// Mean bits per rated token, and the number of rated tokens.
    #[must_use]
    pub fn mean(&self) -> Option<(f64, usize)> {
        let scores = self.cells.iter().flat_map(|cell| &cell.tokens).filter_map(|token| token.score.as_ref());
        let (sum, n) = scores.fold((0.0, 0), |(sum, n), score| (sum - f64::from(score.logprob), n + 1));
        (n > 0).then(|| (sum / n as f64 / f64::from(LN_2), n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Score;

    fn rating(bytes: &[u8], bits: f32) -> Rating {
        let score = Score { logprob: -bits * LN_2, rank: 0, best: Vec::new(), best_logprob: 0.0 };
        Rating { bytes: bytes.to_vec(), score: Some(score) }
    }

    fn ranges(heat: &Heat) -> Vec<Range<usize>> {
        heat.cells().iter().map(|cell| cell.range.clone()).collect()
    }

    #[test]
    fn tokens_that_share_a_character_form_one_cell() {
        // The four bytes of the party popper in three tokens; the first token also has a
        // letter.
        let party = "🎉".as_bytes();
        let first = [b"a", &party[..1]].concat();
        let heat = Heat::new(
            "xa🎉é",
            vec![
                rating(b"x", 1.0),
                rating(&first, 2.0),
                rating(&party[1..3], 3.0),
                rating(&party[3..], 4.0),
                rating("é".as_bytes(), 5.0),
            ],
        );
        let heat = heat.unwrap();
        assert_eq!(ranges(&heat), [0..1, 1..6, 6..8]);
        assert!((heat.cells()[1].bits().unwrap() - 9.0).abs() < 1e-4);
        assert_eq!(heat.at(3).unwrap().range, 1..6);
        assert_eq!(heat.at(8), None);
        let (mean, n) = heat.mean().unwrap();
        assert!((mean - 3.0).abs() < 1e-6 && n == 5);
    }

    #[test]
    fn a_tokenizer_that_changes_the_text_gives_no_cells() {
        assert_eq!(Heat::new("Ab", vec![rating(b"a", 1.0), rating(b"b", 1.0)]), None);
        assert_eq!(Heat::new("ab", vec![rating(b"a", 1.0)]), None);
        assert_eq!(Heat::new("a", vec![rating(b"ab", 1.0)]), None);
        assert_eq!(Heat::new("", vec![]), Some(Heat::default()));
    }

    #[test]
    fn a_first_token_without_a_rating_has_no_bits() {
        let first = Rating { bytes: b"a".to_vec(), score: None };
        let heat = Heat::new("ab", vec![first, rating(b"b", 2.0)]).unwrap();
        assert_eq!(heat.cells()[0].bits(), None);
        assert_eq!(heat.mean().unwrap().1, 1);
    }

    #[test]
    fn cells_follow_edits() {
        let heat = Heat::new("abcdef", [b"ab", b"cd", b"ef"].map(|b| rating(b, 1.0)).into()).unwrap();
        let edited = |start, old_end, new_end| {
            let mut heat = heat.clone();
            heat.edited(Edit { start, old_end, new_end });
            ranges(&heat)
        };
        assert_eq!(edited(2, 2, 5), [0..2, 5..7, 7..9]);
        assert_eq!(edited(3, 3, 4), [0..2, 5..7]);
        assert_eq!(edited(1, 3, 1), vec![2usize..4; 1]);
        assert_eq!(edited(6, 6, 9), [0..2, 2..4, 4..6]);
        assert!(edited(0, 6, 0).is_empty());
    }
}
