//! Incremental decoding of token ids.

use super::byte_level::{fallback_byte, token_bytes};
use super::tokenizer::{ByteTokens, Tokenizer};
use super::utf8::Utf8Buffer;
use crate::error::Result;

/// A decoder that turns token ids into text one at a time and never returns part of a
/// character.
///
/// The returned text is final. Together the pieces equal the text of
/// [`Tokenizer::decode`] for all ids, with two exceptions. If the tokenizer's decoder
/// rewrites earlier text, the text already returned stays. In a vocabulary with byte
/// fallback, a run of byte tokens may contain invalid UTF-8. This decoder then keeps the
/// whole characters of the run, but the library, which sees the whole run, replaces all
/// of it.
///
/// The cost of a token does not grow with the length of the text.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special_tokens: bool,
    /// Bytes of an incomplete character.
    utf8: Utf8Buffer,
    /// The ids whose text was returned last. A token's text may depend on the token
    /// before it: SentencePiece drops a leading space, and WordPiece adds one.
    context: Vec<u32>,
    /// Ids whose text ends in U+FFFD and may still become complete.
    pending: Vec<u32>,
}

/// Maximum number of pending ids. A character has at most 4 bytes and a token at least
/// one, so after this many tokens a U+FFFD is permanent.
const MAX_PENDING: usize = 4;

impl StreamDecoder {
    /// Creates a decoder at the beginning of a text, with or without special tokens.
    #[must_use]
    pub fn new(tokenizer: Tokenizer, skip_special_tokens: bool) -> Self {
        StreamDecoder {
            tokenizer,
            skip_special_tokens,
            utf8: Utf8Buffer::default(),
            context: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Adds a token and returns the text that it completes: often a word, sometimes
    /// nothing. An id without a token gives no text.
    ///
    /// # Errors
    /// `Error::Model` if the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let mut text = String::new();
        // An empty token gives no text and must not become the context.
        let token = self.tokenizer.text_token(id, self.skip_special_tokens).filter(|t| !t.is_empty());
        let Some(token) = token else { return Ok(text) };
        match (self.tokenizer.byte_tokens(), fallback_byte(&token)) {
            (ByteTokens::All, _) => self.utf8.push(&token_bytes(&token), &mut text),
            (ByteTokens::Fallback, Some(byte)) => {
                self.release(&mut text)?;
                self.utf8.push(&[byte], &mut text);
                self.context = vec![id];
            }
            _ => {
                self.utf8.finish(&mut text);
                self.pending.push(id);
                let complete = !self.pending_text()?.ends_with(char::REPLACEMENT_CHARACTER);
                if complete || self.pending.len() >= MAX_PENDING {
                    self.release(&mut text)?;
                }
            }
        }
        Ok(text)
    }

    /// Ends the text and returns the held-back text, with U+FFFD for an incomplete
    /// character. The decoder then starts over.
    ///
    /// # Errors
    /// As [`StreamDecoder::push`].
    pub fn finish(&mut self) -> Result<String> {
        let mut text = String::new();
        self.release(&mut text)?;
        self.utf8.finish(&mut text);
        self.context.clear();
        Ok(text)
    }

    /// Appends the text of the pending ids, which become the new context.
    fn release(&mut self, text: &mut String) -> Result<()> {
        if !self.pending.is_empty() {
            text.push_str(&self.pending_text()?);
            self.context = std::mem::take(&mut self.pending);
        }
        Ok(())
    }

    /// Returns the text that the pending ids add to the text of the context.
    fn pending_text(&self) -> Result<String> {
        let ids = [self.context.as_slice(), &self.pending].concat();
        let before = self.tokenizer.decode(&self.context, self.skip_special_tokens)?;
        let all = self.tokenizer.decode(&ids, self.skip_special_tokens)?;
        // If a decoder rewrites earlier text, the new text begins at the first
        // difference. Text that was already returned stays.
        let pairs = before.chars().zip(all.chars());
        let common: usize = pairs.take_while(|(b, a)| b == a).map(|(b, _)| b.len_utf8()).sum();
        Ok(all[common..].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(vocab: &[&str], decoder: &str, model: &str) -> Tokenizer {
        let vocab: serde_json::Map<String, serde_json::Value> =
            vocab.iter().enumerate().map(|(i, t)| ((*t).to_owned(), i.into())).collect();
        let json = format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
                "pre_tokenizer": null, "post_processor": null, "decoder": {decoder},
                "added_tokens": [{{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
                                   "rstrip": false, "normalized": false, "special": true}}],
                "model": {{{model}, "vocab": {}}}}}"#,
            serde_json::Value::from(vocab)
        );
        Tokenizer::from_bytes("test", json.as_bytes()).unwrap()
    }

    const BPE: &str = r#""type": "BPE", "merges": []"#;
    const LLAMA: &str = r#"{"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}"#;
    const LLAMA_VOCAB: [&str; 12] = [
        "<s>", "▁Hello", "▁", "world", "<0xE6>", "<0x97>", "<0xA5>", "<0xF0>", "<0x9F>", "<0x8E>", "<0x89>",
        "",
    ];

    fn pieces(tokenizer: &Tokenizer, ids: &[u32], skip: bool) -> Vec<String> {
        let mut decoder = StreamDecoder::new(tokenizer.clone(), skip);
        let mut pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
        pieces.push(decoder.finish().unwrap());
        pieces
    }

    /// Checks every sequence of `len` ids: streamed, it equals the whole decoded at once.
    fn check_all(tokenizer: &Tokenizer, ids: &[u32], len: u32) {
        let n = ids.len();
        for code in 0..n.pow(len) {
            let sequence: Vec<u32> = (0..len).map(|i| ids[code / n.pow(i) % n]).collect();
            for skip in [false, true] {
                let whole = tokenizer.decode(&sequence, skip).unwrap();
                assert_eq!(pieces(tokenizer, &sequence, skip).concat(), whole, "{sequence:?}");
            }
        }
    }

    #[test]
    fn sentencepiece_drops_only_the_first_space() {
        let llama = tokenizer(&LLAMA_VOCAB, LLAMA, BPE);
        assert_eq!(pieces(&llama, &[1, 3, 1, 2, 1], false), ["Hello", "world", " Hello", " ", " Hello", ""]);
        assert_eq!(pieces(&llama, &[1, 0, 1], true), ["Hello", "", " Hello", ""]);
        check_all(&llama, &[0, 1, 2, 3, 11, 99], 5);
        let metaspace =
            r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}"#;
        check_all(&tokenizer(&LLAMA_VOCAB, metaspace, BPE), &[0, 1, 2, 3, 99], 5);
    }

    #[test]
    fn byte_fallback_gives_whole_characters() {
        let llama = tokenizer(&LLAMA_VOCAB, LLAMA, BPE);
        let found = pieces(&llama, &[1, 4, 5, 6, 7, 8, 9, 10, 1, 4, 5, 6], false);
        assert_eq!(found, ["Hello", "", "", "日", "", "", "", "🎉", " Hello", "", "", "日", ""]);
        // Invalid: the second 日 lacks a byte. The library replaces the whole run 日日; the
        // stream keeps the first 日, which it has returned.
        assert_eq!(pieces(&llama, &[4, 5, 6, 4, 5, 3], false), ["", "", "日", "", "", "\u{fffd}world", ""]);
        assert_eq!(pieces(&llama, &[7, 8, 9], false), ["", "", "", "\u{fffd}"]);
        assert_eq!(pieces(&llama, &[5, 4, 5, 6], false), ["\u{fffd}", "", "", "日", ""]);
    }

    #[test]
    fn word_pieces_and_word_ends_depend_on_their_neighbours() {
        let vocab = ["<s>", "[UNK]", "play", "##ing", "##ed", ".", "a"];
        let model = r###""type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                         "max_input_chars_per_word": 100"###;
        let decoder = r###"{"type": "WordPiece", "prefix": "##", "cleanup": true}"###;
        let word_piece = tokenizer(&vocab, decoder, model);
        assert_eq!(pieces(&word_piece, &[2, 3, 6, 5], false), ["play", "ing", " a", ".", ""]);
        check_all(&word_piece, &[0, 2, 3, 4, 5, 6], 4);

        let vocab = ["<s>", "hel", "lo</w>", "you</w>"];
        let suffix = tokenizer(&vocab, r#"{"type": "BPEDecoder", "suffix": "</w>"}"#, BPE);
        assert_eq!(pieces(&suffix, &[1, 2, 3], false), ["hel", "lo", " you", ""]);
        check_all(&suffix, &[0, 1, 2, 3], 5);
        check_all(&tokenizer(&vocab, "null", BPE), &[0, 1, 2, 3], 5);
    }

    #[test]
    fn a_byte_level_decoder_among_others_still_gives_whole_characters() {
        let decoder = r#"{"type": "Sequence", "decoders": [{"type": "ByteLevel", "add_prefix_space": true,
            "trim_offsets": true, "use_regex": true}, {"type": "Fuse"}]}"#;
        // The bytes of 🎉 one by one, then a letter.
        let tokenizer = tokenizer(&["<s>", "ð", "Ł", "İ", "ī", "a"], decoder, BPE);
        assert_eq!(tokenizer.decode(&[1, 2, 3, 4], false).unwrap(), "\u{1f389}");
        assert_eq!(pieces(&tokenizer, &[5, 1, 2, 3, 4, 5], false), ["a", "", "", "", "🎉", "a", ""]);
        // Four tokens that complete no character are returned instead of being held back
        // forever.
        let broken = pieces(&tokenizer, &[2, 2, 2, 2, 2, 5], false);
        assert_eq!(broken.concat(), tokenizer.decode(&[2, 2, 2, 2, 2, 5], false).unwrap());
        assert_eq!(broken[3], "\u{fffd}".repeat(4));
    }

    #[test]
    fn a_rewriting_decoder_keeps_the_returned_text() {
        let decoder = r#"{"type": "Sequence", "decoders": [{"type": "Fuse"},
            {"type": "Replace", "pattern": {"String": "ab"}, "content": "X"}]}"#;
        let tokenizer = tokenizer(&["<s>", "a", "b", "c"], decoder, BPE);
        assert_eq!(pieces(&tokenizer, &[3, 1, 2, 3], false), ["c", "a", "X", "c", ""]);
    }

    #[test]
    fn the_decoder_starts_again_after_the_end() {
        let llama = tokenizer(&LLAMA_VOCAB, LLAMA, BPE);
        let mut decoder = StreamDecoder::new(llama, false);
        for _ in 0..2 {
            assert_eq!(decoder.push(1).unwrap(), "Hello");
            assert_eq!(decoder.push(4).unwrap(), "");
            assert_eq!(decoder.finish().unwrap(), "\u{fffd}");
        }
    }
}
