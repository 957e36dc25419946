//! Hashes that name documents and texts: stable for ever, because splits and saved positions depend on them.

use sha2::{Digest, Sha256};

/// Hash of a text with runs of white space collapsed to one space and none at the ends (case is kept).
pub(crate) struct TextHasher(Sha256);

impl TextHasher {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    /// Adds one part; parts are kept apart, `["ab"]` and `["a", "b"]` differ.
    pub(crate) fn part(&mut self, text: &str) {
        for word in text.split_whitespace() {
            self.0.update(word.as_bytes());
            self.0.update(b" ");
        }
        self.0.update([0]);
    }

    pub(crate) fn finish(self) -> u128 {
        first_bytes(&self.0.finalize())
    }
}

/// Hash of one text, white space normalised.
pub(crate) fn text_hash(text: &str) -> u128 {
    let mut hasher = TextHasher::new();
    hasher.part(text);
    hasher.finish()
}

/// Hash of the exact bytes.
pub(crate) fn bytes_hash(bytes: &[u8]) -> u128 {
    first_bytes(&Sha256::digest(bytes))
}

fn first_bytes(digest: &[u8]) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    u128::from_le_bytes(first)
}

/// One step of SplitMix64 as a function: the output for state `z`.
pub(crate) fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_does_not_count_and_parts_do() {
        assert_eq!(text_hash("a  b\n"), text_hash(" a\tb"));
        assert_ne!(text_hash("a b"), text_hash("A b"));
        assert_ne!(text_hash("ab"), text_hash("a b"));
        let parts = |parts: &[&str]| {
            let mut hasher = TextHasher::new();
            parts.iter().for_each(|part| hasher.part(part));
            hasher.finish()
        };
        assert_ne!(parts(&["a", "b"]), parts(&["a b"]));
    }

    #[test]
    fn the_hash_never_changes() {
        // Splits of published runs depend on this value.
        assert_eq!(text_hash("heart rate"), bytes_hash(b"heart rate \0"));
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
    }
}
