//! Converts bytes that arrive in pieces to text.

use std::str;

/// A buffer that collects bytes and returns whole characters.
///
/// The output does not depend on the division of the bytes. It equals
/// [`String::from_utf8_lossy`] of all of them: one U+FFFD for each part that cannot begin
/// or continue a character.
#[derive(Clone, Debug, Default)]
pub(super) struct Utf8Buffer {
    /// The beginning of a character: at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Utf8Buffer {
    /// Adds `bytes`. Appends to `text` all characters that are complete or certainly
    /// invalid.
    pub(super) fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        loop {
            let error = match str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, broken) = rest.split_at(error.valid_up_to());
            text.push_str(str::from_utf8(valid).unwrap_or_default());
            rest = broken;
            // `None` means that the bytes end inside a character that may still become
            // complete.
            let Some(n) = error.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[n..];
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
    }

    /// Appends U+FFFD to `text` if the last character is incomplete.
    pub(super) fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    fn in_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
        let mut buffer = Utf8Buffer::default();
        let mut text = String::new();
        for piece in pieces {
            buffer.push(piece, &mut text);
            assert!(buffer.pending.len() <= 3);
        }
        buffer.finish(&mut text);
        text
    }

    #[test]
    fn pieces_decode_like_the_whole() {
        let broken: [&[u8]; 8] = [
            b"\xff\xfe",
            b"a\xf0\x9f\x98",
            b"\xf0\x9fb",
            b"\xe6\x97\xe6\x97\xa5",
            b"\xed\xa0\x80",
            b"\xc0\xaf",
            b"\xf4\x90\x80\x80",
            b"\x80\x80\xe2",
        ];
        let valid = "naïve 日本語 🎉\u{fffd}";
        for bytes in broken.into_iter().chain([valid.as_bytes()]) {
            for size in 1..=5 {
                assert_eq!(in_pieces(bytes.chunks(size)), String::from_utf8_lossy(bytes), "{bytes:x?}");
            }
        }
    }

    #[test]
    fn random_pieces_decode_like_the_whole() {
        // Bytes that often form or break characters.
        const BYTES: [u8; 12] = [0x41, 0x80, 0x9f, 0x98, 0xa5, 0xc3, 0xe2, 0xe6, 0xed, 0xf0, 0xf4, 0xff];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..below(12)).map(|_| BYTES[below(BYTES.len())]).collect();
            assert_eq!(in_pieces(bytes.chunks(1 + below(4))), String::from_utf8_lossy(&bytes), "{bytes:x?}");
        }
    }
}
