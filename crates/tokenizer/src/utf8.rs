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

    /// Takes the bytes of the next token and appends the text that is now complete, perhaps none, to `text`.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut complete = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            complete += chunk.valid().len();
            let bad = chunk.invalid();
            let begins = |bytes| std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none());
            if complete + bad.len() == self.pending.len() && begins(bad) {
                // The beginning of a character, which the next token may go on with.
                break;
            }
            if !bad.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                complete += bad.len();
            }
        }
        self.pending.drain(..complete);
    }

    /// Ends the stream: what is left of an incomplete character is appended as U+FFFD.
    pub fn finish(&mut self, text: &mut String) {
        text.push_str(&String::from_utf8_lossy(&self.pending));
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(stream: &mut Utf8Stream, bytes: &[u8]) -> String {
        let mut text = String::new();
        stream.push(bytes, &mut text);
        text
    }

    fn finish(stream: &mut Utf8Stream) -> String {
        let mut text = String::new();
        stream.finish(&mut text);
        text
    }

    #[test]
    fn characters_come_out_whole() {
        let mut stream = Utf8Stream::new();
        let texts: Vec<String> = "aä🙂".bytes().map(|byte| push(&mut stream, &[byte])).collect();
        assert_eq!(texts, ["a", "", "ä", "", "", "", "🙂"]);
        assert_eq!(finish(&mut stream), "");
    }

    #[test]
    fn bytes_that_are_no_utf8_do_not_stall() {
        let mut stream = Utf8Stream::new();
        assert_eq!(push(&mut stream, b"a\xFFb\xE0"), "a\u{FFFD}b");
        assert_eq!(push(&mut stream, b"c"), "\u{FFFD}c");
        assert_eq!(push(&mut stream, b"\xF0\x9F"), "");
        assert_eq!(finish(&mut stream), "\u{FFFD}");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_lossy_text(bytes: Vec<u8>, cut in 1..7_usize) {
            let mut stream = Utf8Stream::new();
            let mut text = String::new();
            bytes.chunks(cut).for_each(|chunk| stream.push(chunk, &mut text));
            stream.finish(&mut text);
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
