//! Finding added tokens (control and user-defined) in a text: leftmost, and of those the longest.

/// A token that is matched as a whole string.
#[derive(Debug, Clone)]
pub(crate) struct AddedToken {
    pub id: u32,
    pub text: String,
    /// Control tokens are matched in trusted text only.
    pub is_control: bool,
    /// White space before it belongs to it.
    pub strips_left: bool,
    /// White space after it belongs to it.
    pub strips_right: bool,
}

/// An added token found in a text: `start..end` is replaced by `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    pub start: usize,
    pub end: usize,
    pub id: u32,
    /// The stretch is longer than the token's own text: it took white space along.
    pub token_start: usize,
}

/// All added tokens of a vocabulary, by their first byte.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    /// Range in `tokens` of those that begin with a byte.
    by_first: Box<[(u32, u32); 256]>,
}

impl AddedTokens {
    /// Tokens with empty text are left out: they can be found nowhere.
    pub(crate) fn new(mut tokens: Vec<AddedToken>) -> Self {
        tokens.retain(|token| !token.text.is_empty());
        tokens.sort_by(|a, b| {
            let first = a.text.as_bytes()[0].cmp(&b.text.as_bytes()[0]);
            first.then(b.text.len().cmp(&a.text.len())).then(a.id.cmp(&b.id))
        });
        let mut by_first = Box::new([(0, 0); 256]);
        for (index, token) in tokens.iter().enumerate() {
            let range = &mut by_first[token.text.as_bytes()[0] as usize];
            if range.1 == 0 {
                range.0 = index as u32;
            }
            range.1 = index as u32 + 1;
        }
        Self { tokens, by_first }
    }

    /// All added tokens.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    /// The longest added token at the start of `text`.
    pub(crate) fn at(&self, text: &[u8], with_control: bool) -> Option<&AddedToken> {
        let (from, to) = self.by_first[*text.first()? as usize];
        self.tokens[from as usize..to as usize]
            .iter()
            .find(|token| (with_control || !token.is_control) && text.starts_with(token.text.as_bytes()))
    }

    /// Does a control token stand at the start of `text`?
    pub(crate) fn control_at(&self, text: &[u8]) -> bool {
        let Some(first) = text.first() else { return false };
        let (from, to) = self.by_first[*first as usize];
        let mut tokens = self.tokens[from as usize..to as usize].iter();
        tokens.any(|token| token.is_control && text.starts_with(token.text.as_bytes()))
    }

    /// The first added token in `text` from byte `from` on.
    pub(crate) fn find(&self, text: &str, from: usize, with_control: bool) -> Option<Match> {
        let bytes = text.as_bytes();
        let has_candidates = |byte: &u8| self.by_first[*byte as usize].1 != 0;
        let mut at = from;
        loop {
            at += bytes.get(at..)?.iter().position(has_candidates)?;
            if let Some(token) = self.at(&bytes[at..], with_control) {
                let before = text[from..at].trim_end().len() + from;
                let end = at + token.text.len();
                let after = text.len() - text[end..].trim_start().len();
                return Some(Match {
                    start: if token.strips_left { before } else { at },
                    end: if token.strips_right { after } else { end },
                    id: token.id,
                    token_start: at,
                });
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, text: &str, is_control: bool) -> AddedToken {
        AddedToken { id, text: text.into(), is_control, strips_left: false, strips_right: false }
    }

    #[test]
    fn leftmost_then_longest() {
        let added =
            AddedTokens::new(vec![token(1, "<a", true), token(2, "<a>", true), token(3, "  ", false)]);
        let found = |text: &str, control| added.find(text, 0, control).map(|m| (m.start, m.end, m.id));
        assert_eq!(found("x<a>  ", true), Some((1, 4, 2)));
        assert_eq!(found("x<a>  ", false), Some((4, 6, 3)));
        assert_eq!(found("x<b> ", true), None);
        assert_eq!(found("", true), None);
    }

    #[test]
    fn stripping_tokens_take_white_space_along() {
        let mut both = token(1, "|", true);
        (both.strips_left, both.strips_right) = (true, true);
        let added = AddedTokens::new(vec![both]);
        let found = added.find("a \n| \tb", 0, true).unwrap();
        assert_eq!((found.start, found.end), (1, 6));
    }
}
