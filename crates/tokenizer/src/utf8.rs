//! `Utf8Stream`: bytes of tokens in, complete characters out.

/// Collects the bytes of generated tokens and gives out text only when its characters are complete.
///
/// Bytes that can be no part of UTF-8 come out as U+FFFD at once, so a stream never stalls on them.
#[derive(Debug, Default, Clone)]
pub struct Utf8Stream {
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes of the next token; the text that is now complete, perhaps empty.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(bad) = error.error_len() else {
                        self.pending = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
    }

    /// Ends the stream: what is left of an incomplete character comes out as U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_come_out_whole() {
        let mut stream = Utf8Stream::new();
        let texts: Vec<String> = "aä🙂".bytes().map(|byte| stream.push(&[byte])).collect();
        assert_eq!(texts, ["a", "", "ä", "", "", "", "🙂"]);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_utf8_do_not_stall() {
        let mut stream = Utf8Stream::new();
        assert_eq!(stream.push(b"a\xFFb\xE0"), "a\u{FFFD}b");
        assert_eq!(stream.push(b"c"), "\u{FFFD}c");
        assert_eq!(stream.push(b"\xF0\x9F"), "");
        assert_eq!(stream.finish(), "\u{FFFD}");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_lossy_text(bytes: Vec<u8>, cut in 1..7_usize) {
            let mut stream = Utf8Stream::new();
            let mut text: String = bytes.chunks(cut).map(|chunk| stream.push(chunk)).collect();
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
