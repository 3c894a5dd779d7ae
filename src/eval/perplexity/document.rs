//! Texts as documents: tokens, and the bytes and words behind each.

use crate::error::{Error, Result};
use crate::text::{StreamDecoder, Tokenizer};

/// What a token adds to the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of UTF-8. A character that is spread over several tokens counts with
    /// the last of them.
    pub n_bytes: u32,
    /// Words that begin in it: runs of characters that are not white space.
    pub n_words: u32,
}

/// A text with its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it comes from, for messages and reports.
    pub name: String,
    /// Its tokens, without any that a protocol puts in front.
    pub tokens: Vec<u32>,
    /// One for each token; empty where the text is not known.
    pub extents: Vec<Extent>,
    /// Pieces without a character that lm-evaluation-harness counts as words:
    /// `re.split(r"\s+", text)` has one in front of white space that begins a text
    /// and one behind white space that ends it.
    pub(super) edge_words: (u32, u32),
}

impl Document {
    /// The document of a text.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty text, [`Error::Model`] when the tokenizer
    /// cannot encode it.
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

    /// Tokens whose text is not known: bytes and words are then not reported.
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

/// White space as Python's `\s` has it: Unicode's, and the four separators of
/// ASCII, which Rust does not count.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// How a file is cut into documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// A file is a document.
    #[default]
    File,
    /// A line is a document, without its line end; blank ones are left out.
    Lines,
    /// Lines between blank ones are a document, without the line end of the last.
    BlankLines,
    /// A line is a row as the datasets library reads wikitext's files: with its
    /// line end, and empty where it is blank. Joined they are the text of the
    /// protocol hf's published figures.
    Rows,
    /// What stands between two occurrences of the string is a document, without
    /// the white space at its ends; what is empty then is left out.
    Separator(String),
}

impl Split {
    /// The documents of a text, in order.
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
    // Where the paragraph at hand begins.
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

/// The one text of a protocol that knows no documents: joined by a blank line, as
/// the protocol hf joins wikitext's rows.
#[must_use]
pub fn join(documents: &[&str]) -> String {
    documents.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut() {
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
        let tokenizer = Tokenizer::from_file("weights/tokenizer.json").unwrap();
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
    fn white_space_at_the_ends_counts_as_in_python() {
        // len(re.split(r"\s+", text)) of Python 3.11
        let tokenizer = Tokenizer::from_file("weights/tokenizer.json").unwrap();
        for (text, expected) in [("a b", 2), (" a b\n", 4), ("\u{1f}a", 2), (" ", 2), ("a  \n b ", 3)] {
            let document = Document::new(&tokenizer, "test", text).unwrap();
            let words: u32 = document.extents.iter().map(|extent| extent.n_words).sum();
            assert_eq!(words + document.edge_words.0 + document.edge_words.1, expected, "{text:?}");
        }
    }

    #[test]
    fn an_empty_text_is_named() {
        let tokenizer = Tokenizer::from_file("weights/tokenizer.json").unwrap();
        let error = Document::new(&tokenizer, "a.txt", "").unwrap_err().to_string();
        assert!(error.contains("a.txt: the text is empty"), "{error}");
    }
}
