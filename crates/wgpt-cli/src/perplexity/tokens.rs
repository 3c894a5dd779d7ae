//! The scored tokens one by one: as a table, as CSV, or in the JSON object.

use serde::Serialize;
use wgpt::Tokenizer;
use wgpt_eval::perplexity::{Document, TokenRecord, dominating};

use crate::table::{Table, csv_line};
use wgpt::files::NewFile;

/// The scored tokens, with the tokenizer and the documents that give their text.
pub struct Pieces<'a> {
    pub tokenizer: &'a Tokenizer,
    pub documents: &'a [Document],
    pub records: &'a [TokenRecord],
    /// For each record, whether it is one of the fewest that make up half of the sum of
    /// -log P.
    pub dominates: Vec<bool>,
}

/// A token in the form of the JSON and CSV output.
#[derive(Debug, Serialize)]
pub struct TokenRow {
    /// Counted from 0, like `index` and `position`. The printed table counts documents from
    /// 1, like their names.
    document: usize,
    index: usize,
    position: usize,
    token: u32,
    text: String,
    p: f64,
    nll: f64,
    rank: u32,
    best_token: Option<u32>,
    best_text: Option<String>,
    best_p: Option<f64>,
    dominates: bool,
}

impl<'a> Pieces<'a> {
    pub fn new(tokenizer: &'a Tokenizer, documents: &'a [Document], records: &'a [TokenRecord]) -> Self {
        Pieces { tokenizer, documents, records, dominates: dominating(records) }
    }

    /// Returns the text of a single token. Bytes that are not a whole character are
    /// written as `<0xE6>`, like SentencePiece's byte tokens.
    pub fn text(&self, token: u32) -> String {
        let bytes = self.tokenizer.token_bytes(token);
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|byte| text.push_str(&format!("<0x{byte:02X}>")));
        }
        text
    }

    /// Returns the rows of all tokens.
    pub fn rows(&self) -> impl Iterator<Item = TokenRow> {
        self.records.iter().zip(&self.dominates).map(|(record, &dominates)| {
            let best = record.alternative();
            TokenRow {
                document: record.document,
                index: record.index,
                position: record.position,
                token: record.token,
                text: self.text(record.token),
                p: record.probability(),
                nll: record.nll(),
                rank: record.rank,
                best_token: best.map(|(token, _)| token),
                best_text: best.map(|(token, _)| self.text(token)),
                best_p: best.map(|(_, p)| p),
                dominates,
            }
        })
    }
}

/// Formats a probability with a few significant digits.
pub fn probability(p: f64) -> String {
    if p >= 0.001 { format!("{p:.4}") } else { format!("{p:.1e}") }
}

/// Formats the table and, below it, the meaning of the marks.
pub fn table(pieces: &Pieces<'_>) -> String {
    // Quoted and escaped, so that a newline does not break the line.
    let quoted = |token| format!("{:?}", pieces.text(token));
    let width = pieces.records.iter().map(|record| quoted(record.token).chars().count()).max().unwrap_or(0);
    let columns = [
        ("document", -1),
        ("index", -5),
        ("token", width as i32),
        ("P", -8),
        ("-log P", -7),
        ("rank", -5),
        (" ", 1),
        ("most probable", 13),
        ("its P", -8),
    ];
    let table = Table::new(columns);
    let mut text = format!("\n{}", table.head());
    for (record, &dominates) in pieces.records.iter().zip(&pieces.dominates) {
        let best = record.alternative();
        text += &table.row(&[
            (record.document + 1).to_string(),
            record.index.to_string(),
            quoted(record.token),
            probability(record.probability()),
            format!("{:.4}", record.nll()),
            record.rank.to_string(),
            if dominates { "*" } else { "" }.to_owned(),
            best.map_or_else(String::new, |(token, _)| quoted(token)),
            best.map_or_else(String::new, |(_, p)| probability(p)),
        ]);
    }
    let marked = pieces.dominates.iter().filter(|&&marked| marked).count();
    let n = pieces.records.len();
    let percent = 100.0 * marked as f64 / n.max(1) as f64;
    text + &format!(
        "\n* dominates: {marked} of {n} tokens ({percent:.1}%) make up half of the sum of -log P. Rank 0 is \
         the most probable token.\n"
    )
}

/// Writes all tokens, with a header.
pub fn write_csv(file: &mut NewFile, pieces: &Pieces<'_>) -> anyhow::Result<()> {
    for (i, row) in pieces.rows().enumerate() {
        file.write(csv_line(&row, i == 0)?.as_bytes())?;
    }
    Ok(())
}
