//! The text as cells of a heat map: each is a token, or several tokens that share a
//! character.

use std::collections::BTreeMap;

use serde::Serialize;
use wgpt::StreamDecoder;
use wgpt_eval::perplexity::{Document, TokenRecord};

use crate::perplexity::tokens::Pieces;

/// Maximum number of tokens in the map: about 1 MB of page, which a phone still scrolls
/// smoothly.
pub const TOKENS_MAX: usize = 20_000;

/// A piece of text that is marked as one unit.
#[derive(Debug, Default, PartialEq)]
pub struct Cell {
    /// Whole characters, with line ends and other control characters made visible.
    pub text: String,
    /// The sum of its tokens' negative log-likelihoods; `None` if no token was scored.
    pub nll: Option<f64>,
    /// Indices of its scored tokens in the records.
    pub records: Vec<usize>,
    /// The figures that the page shows on demand, one entry per token.
    pub figures: Vec<Figures>,
}

/// A token's figures in the order that the page's script expects: text, -log P, rank, and
/// the most probable token with its probability if that is another token.
#[derive(Debug, PartialEq, Serialize)]
pub struct Figures(String, Option<f64>, Option<u32>, Option<String>, Option<f64>);

/// The map of one document.
pub struct Map<'a> {
    pub document: &'a Document,
    pub cells: Vec<Cell>,
}

/// Returns the documents' maps, each up to its last scored token, with at most
/// [`TOKENS_MAX`] tokens in total. Also returns whether this limit left out tokens.
pub fn maps<'a>(pieces: &Pieces<'a>) -> wgpt::Result<(Vec<Map<'a>>, bool)> {
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for record in pieces.records {
        let end = last.entry(record.document).or_default();
        *end = (*end).max(record.index + 1);
    }
    let (mut maps, mut left) = (Vec::new(), TOKENS_MAX);
    let mut records = pieces.records.iter().enumerate().peekable();
    for (&i, &n_tokens) in &last {
        if left == 0 {
            return Ok((maps, true));
        }
        let document = &pieces.documents[i];
        let n_shown = n_tokens.min(left);
        let mut scored = Vec::new();
        while let Some(record) = records.next_if(|(_, record)| record.document == i) {
            scored.push(record);
        }
        maps.push(Map { document, cells: cells(pieces, &document.tokens[..n_shown], &scored)? });
        left -= n_shown;
        if n_shown < n_tokens {
            return Ok((maps, true));
        }
    }
    Ok((maps, false))
}

fn cells(pieces: &Pieces<'_>, tokens: &[u32], records: &[(usize, &TokenRecord)]) -> wgpt::Result<Vec<Cell>> {
    let mut decoder = StreamDecoder::new(pieces.tokenizer.clone(), false);
    let mut records = records.iter().peekable();
    let mut cells = Vec::with_capacity(tokens.len());
    let mut cell = Cell::default();
    for (index, &token) in tokens.iter().enumerate() {
        let record = records.next_if(|(_, record)| record.index == index);
        cell.add(pieces, token, record.copied());
        let text = decoder.push(token)?;
        // A token without text is the beginning of a character that the next tokens
        // complete.
        if !text.is_empty() {
            cell.text = visible(&text);
            cells.push(std::mem::take(&mut cell));
        }
    }
    if !cell.figures.is_empty() {
        cell.text = visible(&decoder.finish()?);
        cells.push(cell);
    }
    Ok(cells)
}

impl Cell {
    fn add(&mut self, pieces: &Pieces<'_>, token: u32, record: Option<(usize, &TokenRecord)>) {
        // The page prints three decimals of -log P; rounding keeps the file small.
        let digits = |value: f64, n: f64| (value * n).round() / n;
        let best = record.and_then(|(_, record)| record.alternative());
        self.figures.push(Figures(
            pieces.text(token),
            record.map(|(_, record)| digits(record.nll(), 1e3)),
            record.map(|(_, record)| record.rank),
            best.map(|(token, _)| pieces.text(token)),
            best.map(|(_, p)| digits(p, 1e4)),
        ));
        if let Some((i, record)) = record {
            self.nll = Some(self.nll.unwrap_or(0.0) + record.nll());
            self.records.push(i);
        }
    }
}

/// Replaces control characters with Unicode's symbols for them; a line end still breaks
/// the line.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\u{21b5}\n"),
            '\t' => out.push_str("\u{2192}\t"),
            '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\u{7f}' => out.push('\u{2421}'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use wgpt::Tokenizer;

    use super::*;

    fn records(document: usize, tokens: &[u32], from: usize) -> Vec<TokenRecord> {
        let record = |(index, &token): (usize, &u32)| TokenRecord {
            document,
            index,
            position: index,
            token,
            logprob: -1.5,
            rank: 1,
            best: 0,
            best_logprob: -0.5,
        };
        tokens.iter().enumerate().skip(from).map(record).collect()
    }

    #[test]
    fn tokens_that_share_a_character_form_one_cell() {
        let tokenizer =
            Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights/tokenizer.json"))
                .unwrap();
        let documents = [Document::new(&tokenizer, "test", "a dog\n\u{1f389}\u{7}").unwrap()];
        let records = records(0, &documents[0].tokens, 1);
        let (maps, left_out) = maps(&Pieces::new(&tokenizer, &documents, &records)).unwrap();
        let text: String = maps[0].cells.iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!((text.as_str(), left_out), ("a dog\u{21b5}\n\u{1f389}\u{2407}", false));
        assert_eq!((maps[0].cells[0].nll, maps[0].cells[0].figures.len()), (None, 1));
        let emoji = maps[0].cells.iter().find(|cell| cell.text == "\u{1f389}").unwrap();
        assert!(emoji.figures.len() > 1 && emoji.figures.len() == emoji.records.len());
        assert_eq!(emoji.nll, Some(1.5 * emoji.records.len() as f64));
        let scored: usize = maps[0].cells.iter().map(|cell| cell.records.len()).sum();
        assert_eq!(scored, records.len());
    }

    #[test]
    fn a_long_text_is_truncated() {
        let tokenizer =
            Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights/tokenizer.json"))
                .unwrap();
        let token = tokenizer.encode("a").unwrap()[0];
        let documents =
            [TOKENS_MAX - 5, 3, 9, 4].map(|n_tokens| Document::from_tokens("test", vec![token; n_tokens]));
        // Nothing was scored in the second document.
        let all: Vec<_> = [0, 2, 3].into_iter().flat_map(|i| records(i, &documents[i].tokens, 0)).collect();
        let shown = |records: &[TokenRecord]| {
            let (maps, left_out) = maps(&Pieces::new(&tokenizer, &documents, records)).unwrap();
            (maps.iter().map(|map| map.cells.len()).collect::<Vec<_>>(), left_out)
        };
        assert_eq!(shown(&all), (vec![TOKENS_MAX - 5, 5], true));
        // A map ends at its document's last scored token.
        assert_eq!(shown(&all[..100]), (vec![100], false));
        assert_eq!(shown(&all[..TOKENS_MAX]), (vec![TOKENS_MAX - 5, 5], false));
        assert_eq!(shown(&[]), (vec![], false));
    }
}
