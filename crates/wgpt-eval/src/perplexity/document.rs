//! Texts as documents: their tokens, and the bytes and words of each token.

use wgpt::{Error, Result, StreamDecoder, Tokenizer};

/// Bytes and words that a token adds to the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of UTF-8. A character that spans several tokens counts with its last token.
    pub n_bytes: u32,
    /// Words that begin in the token. A word is a run of characters that are not white
    /// space.
    pub n_words: u32,
}

/// A text and its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Source of the text, for messages and reports.
    pub name: String,
    /// Tokens of the text, without any token that a protocol prepends.
    pub tokens: Vec<u32>,
    /// Extent of each token; empty if the text is unknown.
    pub extents: Vec<Extent>,
    /// Empty pieces that lm-evaluation-harness counts as words: `re.split(r"\s+", text)`
    /// returns one before white space at the start of a text and one after white space at
    /// its end. The counts are (start, end).
    pub(super) edge_words: (u32, u32),
}

impl Document {
    /// Creates the document of a text.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty text, [`Error::Model`] if the tokenizer cannot
    /// encode it.
    pub fn new(tokenizer: &Tokenizer, name: impl Into<String>, text: &str) -> Result<Self> {
        let name = name.into();
        if text.is_empty() {
            return Err(Error::input(format!("{name}: the text is empty: there is nothing to score")));
        }
        let tokens = tokenizer.encode(text)?;
        let extents = extents(tokenizer, &tokens)?;
        let edge = |c: Option<char>| u32::from(c.is_some_and(is_space));
        let edge_words = (edge(text.chars().next()), edge(text.chars().next_back()));
        Ok(Document { name, tokens, extents, edge_words })
    }

    /// Creates a document of tokens whose text is unknown. Bytes and words are then not
    /// reported.
    #[must_use]
    pub fn from_tokens(name: impl Into<String>, tokens: Vec<u32>) -> Self {
        Document { name: name.into(), tokens, extents: Vec::new(), edge_words: (0, 0) }
    }
}

fn extents(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<Vec<Extent>> {
    let mut decoder = StreamDecoder::new(tokenizer.clone(), false);
    let mut in_word = false;
    let mut measure = |text: &str| {
        let mut n_words = 0;
        for c in text.chars() {
            let begins = !in_word && !is_space(c);
            n_words += u32::from(begins);
            in_word = !is_space(c);
        }
        Extent { n_bytes: text.len() as u32, n_words }
    };
    let mut extents = Vec::with_capacity(tokens.len());
    for &token in tokens {
        extents.push(measure(&decoder.push(token)?));
    }
    let rest = measure(&decoder.finish()?);
    if let Some(last) = extents.last_mut() {
        last.n_bytes += rest.n_bytes;
        last.n_words += rest.n_words;
    }
    Ok(extents)
}

/// Returns whether `c` is white space in Python's `\s`: Unicode's white space and the
/// four separators of ASCII, which Rust does not include.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Method of splitting a file into documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// The whole file is one document.
    #[default]
    File,
    /// Each line is a document, without its line end. Blank lines are skipped.
    Lines,
    /// Each block of lines between blank lines is a document, without the last line end.
    BlankLines,
    /// Each line is a row, as the datasets library reads wikitext's files: with its line
    /// end, or empty if the line is blank. The joined rows are the text of the published
    /// figures for protocol hf.
    Rows,
    /// Each piece between occurrences of the string is a document, trimmed of white
    /// space. Pieces that are then empty are skipped.
    Separator(String),
}

impl Split {
    /// Returns the documents of a text, in order.
    #[must_use]
    pub fn apply<'t>(&self, text: &'t str) -> Vec<&'t str> {
        match self {
            Split::File => vec![text],
            Split::Lines => text.lines().filter(|line| !line.trim().is_empty()).collect(),
            Split::BlankLines => paragraphs(text),
            Split::Rows => text
                .split_inclusive('\n')
                .map(|line| if line.trim().is_empty() { "" } else { line })
                .collect(),
            Split::Separator(separator) => {
                text.split(separator.as_str()).map(str::trim).filter(|piece| !piece.is_empty()).collect()
            }
        }
    }
}

fn paragraphs(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    // Start of the current paragraph.
    let mut start = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            all.extend(start.take().map(|start| &text[start..at]));
        } else if start.is_none() {
            start = Some(at);
        }
        at += line.len();
    }
    all.extend(start.map(|start| &text[start..]));
    all.into_iter().map(|paragraph| paragraph.trim_end_matches(['\r', '\n'])).collect()
}

/// Joins documents into the single text of a stream protocol. They are separated by a
/// blank line, as protocol hf joins wikitext's rows.
#[must_use]
pub fn join(documents: &[&str]) -> String {
    documents.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_split_into_documents() {
        let of = |split: Split, text: &'static str| split.apply(text);
        assert_eq!(of(Split::File, " a\n"), [" a\n"]);
        assert_eq!(of(Split::Lines, "a\r\n\n b \n  \nc"), ["a", " b ", "c"]);
        assert_eq!(of(Split::BlankLines, "\n\na\nb\r\n\r\n \n c\n"), ["a\nb", " c"]);
        assert_eq!(of(Split::BlankLines, "a\n\nb"), ["a", "b"]);
        assert_eq!(of(Split::Rows, " \n = T = \n \nx"), ["", " = T = \n", "", "x"]);
        let stories = Split::Separator("<|endoftext|>".into());
        assert_eq!(of(stories, "one\n<|endoftext|>\ntwo\n<|endoftext|>\n"), ["one", "two"]);
        for split in [Split::Lines, Split::BlankLines, Split::Separator("x".into())] {
            assert!(split.apply(" \n").is_empty(), "{split:?}");
        }
        assert_eq!(join(&["a", "b"]), "a\n\nb");
    }

    #[test]
    fn extents_add_up_to_the_text() {
        let tokenizer =
            Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights/tokenizer.json"))
                .unwrap();
        for text in ["Once upon a time, there was", " naïve 日本語 🎉\n\n 3.5%", "\u{1c}\u{85}", "a"] {
            let document = Document::new(&tokenizer, "test", text).unwrap();
            let total = |of: fn(&Extent) -> u32| document.extents.iter().map(of).sum::<u32>();
            assert_eq!(document.extents.len(), document.tokens.len());
            assert_eq!(total(|e| e.n_bytes), text.len() as u32, "{text:?}");
            let words = text.split(is_space).filter(|word| !word.is_empty()).count();
            assert_eq!(total(|e| e.n_words), words as u32, "{text:?}");
        }
    }

    #[test]
    fn white_space_at_the_ends_counts_as_words_like_in_python() {
        // Expected: len(re.split(r"\s+", text)) in Python 3.11
        let tokenizer =
            Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights/tokenizer.json"))
                .unwrap();
        for (text, expected) in [("a b", 2), (" a b\n", 4), ("\u{1f}a", 2), (" ", 2), ("a  \n b ", 3)] {
            let document = Document::new(&tokenizer, "test", text).unwrap();
            let words: u32 = document.extents.iter().map(|extent| extent.n_words).sum();
            assert_eq!(words + document.edge_words.0 + document.edge_words.1, expected, "{text:?}");
        }
    }

    #[test]
    fn an_empty_text_is_refused() {
        let tokenizer =
            Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights/tokenizer.json"))
                .unwrap();
        let error = Document::new(&tokenizer, "a.txt", "").unwrap_err().to_string();
        assert!(error.contains("a.txt: the text is empty"), "{error}");
    }
}
