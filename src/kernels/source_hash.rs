//! Identifies the kernels with which a measurement was made.

use sha2::{Digest, Sha256};

use super::registry;
use crate::gpu::Variant;

/// Hexadecimal digits of the hash that are kept: 64 bits, enough to distinguish versions
/// of one program.
const DIGITS: usize = 16;

/// Returns a hash over the WGSL text of every variant in the registry, constants and
/// fragments included. It is equal for equal kernels, whatever the rest of the program
/// is.
#[must_use]
pub fn source_hash() -> String {
    hash(&registry())
}

fn hash(variants: &[Variant]) -> String {
    let mut texts: Vec<(String, String)> = variants.iter().map(|v| (v.label(), v.wgsl())).collect();
    texts.sort();
    let mut hasher = Sha256::new();
    for text in texts.iter().flat_map(|(label, wgsl)| [label, wgsl]) {
        // The length comes first, so that one text cannot be confused with two shorter ones.
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.replace("\r\n", "\n"));
    }
    let mut digits: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_texts_and_not_on_their_order() {
        let mut variants = registry();
        let before = hash(&variants);
        assert_eq!(before.len(), DIGITS);
        assert_eq!(before, source_hash());
        variants.reverse();
        assert_eq!(hash(&variants), before);
        variants[0].constants.push(("ANOTHER", 1));
        assert_ne!(hash(&variants), before);
        variants.remove(0);
        assert_ne!(hash(&variants), before);
        // The first digits of the SHA-256 of an empty input.
        assert_eq!(hash(&[]), "e3b0c44298fc1c14");
    }
}
