//! From the tokens and merges that a file lists to a vocabulary: what both file formats have in common.

use crate::bytes::unspell;
use crate::error::TokenizerError;
use crate::model::SPACE_MARK;
use crate::vocab::{Merges, TokenEntry, TokenKind, Vocab};

/// How a vocabulary spells bytes in its token strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// One character for every byte.
    ByteLevel,
    /// Text, with U+2581 for a space.
    Spm,
}

/// A token as a file lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'f> {
    pub text: &'f str,
    pub kind: TokenKind,
    /// The token belongs to the model, not only to the list of added tokens.
    pub is_in_model: bool,
}

/// The byte that `<0x0A>` stands for.
pub(crate) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Builds the vocabulary of `tokens`, listed by id; `field` names them in errors.
pub(crate) fn vocabulary<'f>(
    spelling: Spelling,
    tokens: impl ExactSizeIterator<Item = Listed<'f>> + Clone,
    field: &str,
) -> Result<Vocab, TokenizerError> {
    let bytes = tokens.clone().map(|token| token.text.len()).sum();
    let mut vocab = Vocab::with_capacity(tokens.len(), bytes);
    for (id, token) in tokens.enumerate() {
        let place = || format!("{field}[{id}] {:?}", token.text);
        vocab.push(place, |out| decode_token(spelling, token, out))?;
    }
    Ok(vocab)
}

/// Appends the bytes that `token` stands for; `None` for a byte token that names no byte.
pub(crate) fn decode_token(spelling: Spelling, token: Listed<'_>, out: &mut Vec<u8>) -> Option<TokenEntry> {
    let text = token.text;
    let mut is_literal = false;
    match (token.kind, spelling) {
        (TokenKind::Byte, _) => out.push(byte_token(text)?),
        (TokenKind::Normal, Spelling::ByteLevel) => {
            is_literal = !unspell(text, out);
            if is_literal {
                out.extend_from_slice(text.as_bytes());
            }
        }
        (TokenKind::Normal | TokenKind::UserDefined, Spelling::Spm) => {
            is_literal = text.contains(' ');
            push_unmarked(text, out);
        }
        (TokenKind::UserDefined, Spelling::ByteLevel) => {
            out.extend_from_slice(text.as_bytes());
            is_literal = !text.bytes().all(|byte| byte.is_ascii_graphic());
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    let is_text = matches!(token.kind, TokenKind::Normal | TokenKind::UserDefined);
    let is_searched = is_text && token.is_in_model && !is_literal;
    Some(TokenEntry { kind: token.kind, is_literal, is_searched })
}

/// Builds the list of merges from their number and texts. Merges of or into control tokens are left out: text never becomes one.
pub(crate) fn merges<'f>(
    spelling: Spelling,
    vocab: &Vocab,
    listed: (usize, impl Iterator<Item = (&'f str, &'f str)>),
    is_control: impl Fn(&str) -> bool,
    field: &str,
) -> Result<Merges, TokenizerError> {
    let (count, listed) = listed;
    let mut merges = Merges::with_capacity(count);
    let mut buffer = Vec::new();
    let mut expected = 0_u32;
    for (index, (left, right)) in listed.enumerate() {
        buffer.clear();
        let left_id = find(spelling, vocab, left, &mut buffer);
        let right_id = find(spelling, vocab, right, &mut buffer);
        // trained vocabularies number the results of merges in order
        let id = if vocab.bytes(expected) == buffer && vocab.is_searched(expected) {
            Some(expected)
        } else {
            vocab.find(&buffer)
        };
        match (left_id, right_id, id) {
            (Some(left_id), Some(right_id), Some(id)) => {
                merges.push(left_id, right_id, id);
                expected = id.saturating_add(1);
            }
            _ => {
                let whole = format!("{left}{right}");
                let is_missing = |(id, text): &(Option<u32>, &str)| id.is_none() && !is_control(text);
                let named = [(left_id, left), (right_id, right), (id, whole.as_str())];
                if let Some((_, text)) = named.iter().find(|named| is_missing(named)) {
                    let why = format!("{text:?} is no token of the vocabulary");
                    return Err(TokenizerError::bad(format!("{field}[{index}]"), why));
                }
            }
        }
    }
    Ok(merges)
}

/// Appends the bytes `text` stands for and finds their token.
fn find(spelling: Spelling, vocab: &Vocab, text: &str, buffer: &mut Vec<u8>) -> Option<u32> {
    let start = buffer.len();
    match spelling {
        Spelling::ByteLevel if unspell(text, buffer) => {}
        Spelling::ByteLevel => return None,
        Spelling::Spm => push_unmarked(text, buffer),
    }
    vocab.find(&buffer[start..])
}

/// Appends `text` with spaces for U+2581.
fn push_unmarked(text: &str, out: &mut Vec<u8>) {
    for (index, part) in text.split(SPACE_MARK).enumerate() {
        out.extend((index > 0).then_some(b' '));
        out.extend_from_slice(part.as_bytes());
    }
}
