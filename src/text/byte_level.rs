//! The notation of bytes in vocabularies: the alphabet of byte-level BPE, and
//! SentencePiece's byte fallback.

/// Returns the bytes that a token of a byte-level vocabulary stands for.
///
/// The alphabet is GPT-2's `bytes_to_unicode` (openai/gpt-2, `src/encoder.py`). Printable
/// Latin-1 characters stand for themselves, and the other 68 bytes map to U+0100 and up,
/// in ascending order. Added tokens may have a character outside that alphabet. Such a
/// token stands for its own UTF-8, as in the tokenizers library.
pub(super) fn token_bytes(token: &str) -> Vec<u8> {
    token.chars().map(char_byte).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

fn char_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        // The other bytes in ascending order: 0x00..=0x20, 0x7f..=0xa0, 0xad.
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Returns the byte of a token such as `<0x0A>`, parsed as in the tokenizers library.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_matches_the_tokenizers_library() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert_eq!(alphabet.len(), 256);
        let mut bytes: Vec<u8> = alphabet.iter().map(|&c| char_byte(c).unwrap()).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        let known = (0..=char::MAX as u32).filter_map(char::from_u32).filter(|&c| char_byte(c).is_some());
        assert_eq!(known.count(), 256);
    }

    #[test]
    fn tokens_are_converted_to_bytes() {
        assert_eq!(token_bytes("ĠaĊ"), b" a\n");
        assert_eq!(token_bytes("ðŁĺ"), b"\xf0\x9f\x98");
        assert_eq!(token_bytes("Ń"), [0xad]);
        assert_eq!(token_bytes("<|日本|>"), "<|日本|>".as_bytes());
    }
}
