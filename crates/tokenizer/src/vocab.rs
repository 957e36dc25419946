//! The vocabulary: bytes and kind of every token, and the way back from bytes to an id.

use crate::error::TokenizerError;

/// What a token is for; the numbers are those of GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// Ordinary text.
    Normal = 1,
    /// Stands for text the vocabulary cannot express.
    Unknown = 2,
    /// Control token: never produced from plain text.
    Control = 3,
    /// Added text token, taken whole wherever it stands in a text.
    UserDefined = 4,
    /// A hole in the numbering.
    Unused = 5,
    /// One byte (`<0x0A>`), for text that no other token covers.
    Byte = 6,
}

impl TokenKind {
    /// The kind that GGUF calls `number`.
    pub(crate) fn from_gguf(number: i32) -> Option<Self> {
        use TokenKind::*;
        // 0 ("undefined") is written by some converters for ordinary tokens
        let kinds = [Normal, Normal, Unknown, Control, UserDefined, Unused, Byte];
        usize::try_from(number).ok().and_then(|n| kinds.get(n).copied())
    }
}

/// A token as a file lists it, decoded.
#[derive(Debug, Clone)]
pub(crate) struct TokenEntry {
    pub kind: TokenKind,
    /// The file spells the bytes as they are, not in the vocabulary's own spelling.
    pub is_literal: bool,
    /// Merging may give this token.
    pub is_searched: bool,
}

const NO_TOKEN: u32 = u32::MAX;

/// Bytes and kinds of all tokens. Ordinary tokens can be looked up by their bytes.
#[derive(Debug)]
pub(crate) struct Vocab {
    arena: Vec<u8>,
    /// End of every token's bytes in `arena`; they begin where those of the token before end.
    ends: Vec<u32>,
    entries: Vec<TokenEntry>,
    /// Open-addressed table of ids, `NO_TOKEN` where free; its length is a power of two.
    slots: Vec<u32>,
}

impl Vocab {
    /// An empty vocabulary with room for `tokens` tokens of `bytes` bytes together.
    pub(crate) fn with_capacity(tokens: usize, bytes: usize) -> Self {
        let slots = vec![NO_TOKEN; (tokens * 2).next_power_of_two().max(16)];
        Self {
            arena: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(tokens),
            entries: Vec::with_capacity(tokens),
            slots,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Appends a token whose bytes `write` appends; `place` names it in errors. Ordinary tokens must differ from
    /// each other.
    pub(crate) fn push(
        &mut self,
        entry: TokenEntry,
        place: impl FnOnce() -> String,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), TokenizerError> {
        let start = self.arena.len();
        write(&mut self.arena);
        let Ok(end) = u32::try_from(self.arena.len()) else {
            return Err(TokenizerError::bad(place(), "the tokens together have more than 4 GiB"));
        };
        let id = self.ends.len() as u32;
        self.ends.push(end);
        let is_normal = entry.kind == TokenKind::Normal;
        let is_searched = entry.is_searched && end as usize > start;
        self.entries.push(entry);
        if !is_searched {
            return Ok(());
        }
        match self.insert(id, start) {
            Err(other) if is_normal => {
                Err(TokenizerError::bad(place(), format!("token {id} repeats token {other}")))
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, id: u32, start: usize) -> Result<(), u32> {
        let bytes = &self.arena[start..];
        let mask = self.slots.len() - 1;
        let mut at = hash(bytes) as usize & mask;
        while self.slots[at] != NO_TOKEN {
            if self.bytes(self.slots[at]) == bytes {
                return Err(self.slots[at]);
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = id;
        Ok(())
    }

    /// Bytes of token `id`; empty if there is none.
    #[inline]
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let Some(&end) = self.ends.get(id as usize) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
        &self.arena[start as usize..end as usize]
    }

    /// Kind and spelling of token `id`.
    pub(crate) fn entry(&self, id: u32) -> Option<&TokenEntry> {
        self.entries.get(id as usize)
    }

    /// May merging give token `id`?
    pub(crate) fn is_searched(&self, id: u32) -> bool {
        self.entry(id).is_some_and(|entry| entry.is_searched)
    }

    /// Id of the ordinary token with these bytes.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash(bytes) as usize & mask;
        loop {
            let id = self.slots[at];
            if id == NO_TOKEN {
                return None;
            }
            if self.bytes(id) == bytes {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
    }
}

/// A fast hash of short byte strings (multiply and fold, eight bytes at a time); not secret, not stored.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0_u8; 8];
        word.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word));
    }
    let mut word = 0_u64;
    for &byte in chunks.remainder() {
        word = word << 8 | u64::from(byte);
    }
    fold(state ^ word)
}

#[inline]
fn fold(x: u64) -> u64 {
    let product = u128::from(x) * 0xA076_1D64_78BD_642F_u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Merges by the pair of ids they join: rank in the file and resulting id.
#[derive(Debug)]
pub(crate) struct Merges {
    /// Left and right id of every merge, in the order of the file, which is their rank.
    pairs: Vec<(u32, u32)>,
    slots: Vec<MergeSlot>,
}

#[derive(Debug, Clone, Copy)]
struct MergeSlot {
    left: u32,
    right: u32,
    rank: u32,
    id: u32,
}

const FREE: MergeSlot = MergeSlot { left: NO_TOKEN, right: NO_TOKEN, rank: 0, id: 0 };

impl Merges {
    pub(crate) fn with_capacity(merges: usize) -> Self {
        let slots = vec![FREE; (merges * 2).next_power_of_two().max(16)];
        Self { pairs: Vec::with_capacity(merges), slots }
    }

    /// Appends the merge of `left` and `right` into `id`; of a repeated pair the first counts.
    pub(crate) fn push(&mut self, left: u32, right: u32, id: u32) {
        let rank = self.pairs.len() as u32;
        self.pairs.push((left, right));
        let mask = self.slots.len() - 1;
        let mut at = pair_hash(left, right) & mask;
        while self.slots[at].left != NO_TOKEN {
            if (self.slots[at].left, self.slots[at].right) == (left, right) {
                return;
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = MergeSlot { left, right, rank, id };
    }

    /// Rank and result of merging `left` and `right`.
    #[inline]
    pub(crate) fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let mask = self.slots.len() - 1;
        let mut at = pair_hash(left, right) & mask;
        loop {
            let slot = self.slots[at];
            if slot.left == left && slot.right == right {
                return (left != NO_TOKEN).then_some((slot.rank, slot.id));
            }
            if slot.left == NO_TOKEN {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// All merges in order.
    pub(crate) fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }
}

#[inline]
fn pair_hash(left: u32, right: u32) -> usize {
    fold(u64::from(left) << 32 | u64::from(right)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal() -> TokenEntry {
        TokenEntry { kind: TokenKind::Normal, is_literal: false, is_searched: true }
    }

    #[test]
    fn finds_what_was_pushed_and_refuses_repeats() {
        let mut vocab = Vocab::with_capacity(300, 0);
        for n in 0..300_u32 {
            vocab.push(normal(), String::new, |out| out.extend(n.to_string().bytes())).unwrap();
        }
        for n in 0..300_u32 {
            assert_eq!(vocab.find(n.to_string().as_bytes()), Some(n));
        }
        assert_eq!(vocab.find(b"300"), None);
        assert_eq!(vocab.bytes(300), b"");
        let error = vocab.push(normal(), || "vocab".into(), |out| out.push(b'7')).unwrap_err();
        assert_eq!(error.to_string(), "vocab: token 300 repeats token 7");
    }

    #[test]
    fn first_of_repeated_merges_counts() {
        let mut merges = Merges::with_capacity(1);
        for (left, right, id) in [(1, 2, 9), (1, 2, 10), (2, 1, 11)] {
            merges.push(left, right, id);
        }
        assert_eq!(merges.find(1, 2), Some((0, 9)));
        assert_eq!(merges.find(2, 1), Some((2, 11)));
        assert_eq!(merges.find(2, 2), None);
        assert_eq!(merges.find(NO_TOKEN, NO_TOKEN), None);
    }
}
