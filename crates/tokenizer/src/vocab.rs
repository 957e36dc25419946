//! The vocabulary: bytes and kind of every token, and the way back from bytes to an id.

use std::sync::OnceLock;

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
    /// Open-addressed table of the tokens that merging may give; its length is a power of two.
    slots: Vec<Slot>,
}

/// A token in the table of a vocabulary, `NO_TOKEN` where free.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The high half of the hash: bytes are compared only where it is equal.
    tag: u32,
    id: u32,
}

const FREE_SLOT: Slot = Slot { tag: 0, id: NO_TOKEN };

impl Vocab {
    /// An empty vocabulary with room for `tokens` tokens of `bytes` bytes together.
    pub(crate) fn with_capacity(tokens: usize, bytes: usize) -> Self {
        let slots = vec![FREE_SLOT; (tokens * 2).next_power_of_two().max(16)];
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
        place: impl Fn() -> String,
        write: impl FnOnce(&mut Vec<u8>) -> Option<TokenEntry>,
    ) -> Result<(), TokenizerError> {
        let start = self.arena.len();
        let Some(entry) = write(&mut self.arena) else {
            return Err(TokenizerError::bad(place(), "byte token that names no byte"));
        };
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
        match self.slot_of(&self.arena[start..]) {
            Ok(slot) if is_normal => {
                let other = self.slots[slot].id;
                Err(TokenizerError::bad(place(), format!("token {id} repeats token {other}")))
            }
            Ok(_) => Ok(()),
            Err((slot, tag)) => {
                self.slots[slot] = Slot { tag, id };
                Ok(())
            }
        }
    }

    /// The slot of the token with these bytes, or the free slot and the tag that it would have.
    #[inline]
    fn slot_of(&self, bytes: &[u8]) -> Result<usize, (usize, u32)> {
        let mask = self.slots.len() - 1;
        let hash = hash(bytes);
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.id == NO_TOKEN {
                return Err((at, tag));
            }
            if slot.tag == tag && self.bytes(slot.id) == bytes {
                return Ok(at);
            }
            at = (at + 1) & mask;
        }
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
        self.slot_of(bytes).ok().map(|slot| self.slots[slot].id)
    }
}

/// A fast hash of short byte strings (multiply and fold, eight bytes at a time); not secret, not stored.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        state = fold(state ^ u64::from_le_bytes(*word));
        rest = after;
    }
    // without a loop: the first and last bytes of what is left, which may overlap
    let last = match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
        (Some(first), Some(last), _) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        (_, _, [first, .., last]) => {
            u64::from(*first) << 16 | u64::from(rest[rest.len() / 2]) << 8 | u64::from(*last)
        }
        (_, _, [only]) => u64::from(*only),
        _ => 0,
    };
    fold(state ^ last)
}

#[inline]
fn fold(x: u64) -> u64 {
    let product = u128::from(x) * 0xA076_1D64_78BD_642F_u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Merges in the order of the file, which is their rank.
#[derive(Debug)]
pub(crate) struct Merges {
    /// Left and right id of every merge.
    pairs: Vec<(u32, u32)>,
    /// What every merge gives.
    ids: Vec<u32>,
    /// Built when a text is first encoded.
    table: OnceLock<MergeTable>,
}

/// Merges by the pair of ids they join.
#[derive(Debug)]
pub(crate) struct MergeTable {
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
        let (pairs, ids) = (Vec::with_capacity(merges), Vec::with_capacity(merges));
        Self { pairs, ids, table: OnceLock::new() }
    }

    /// Appends the merge of `left` and `right` into `id`; of a repeated pair the first counts.
    pub(crate) fn push(&mut self, left: u32, right: u32, id: u32) {
        self.pairs.push((left, right));
        self.ids.push(id);
        self.table = OnceLock::new();
    }

    /// The merges by their pairs.
    #[inline]
    pub(crate) fn table(&self) -> &MergeTable {
        self.table.get_or_init(|| {
            let mut table =
                MergeTable { slots: vec![FREE; (self.pairs.len() * 2).next_power_of_two().max(16)] };
            for (rank, (&(left, right), &id)) in self.pairs.iter().zip(&self.ids).enumerate() {
                table.insert(MergeSlot { left, right, rank: rank as u32, id });
            }
            table
        })
    }

    /// All merges in order.
    pub(crate) fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }
}

impl MergeTable {
    fn insert(&mut self, merge: MergeSlot) {
        let mask = self.slots.len() - 1;
        let mut at = pair_hash(merge.left, merge.right) & mask;
        while self.slots[at].left != NO_TOKEN {
            if (self.slots[at].left, self.slots[at].right) == (merge.left, merge.right) {
                return;
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = merge;
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
}

#[inline]
fn pair_hash(left: u32, right: u32) -> usize {
    fold(u64::from(left) << 32 | u64::from(right)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(out: &mut Vec<u8>, text: &str) -> Option<TokenEntry> {
        out.extend_from_slice(text.as_bytes());
        Some(TokenEntry { kind: TokenKind::Normal, is_literal: false, is_searched: true })
    }

    #[test]
    fn finds_what_was_pushed_and_refuses_repeats() {
        let mut vocab = Vocab::with_capacity(300, 0);
        for n in 0..300_u32 {
            vocab.push(String::new, |out| normal(out, &n.to_string())).unwrap();
        }
        for n in 0..300_u32 {
            assert_eq!(vocab.find(n.to_string().as_bytes()), Some(n));
        }
        assert_eq!(vocab.find(b"300"), None);
        assert_eq!(vocab.bytes(300), b"");
        let error = vocab.push(|| "vocab".into(), |out| normal(out, "7")).unwrap_err();
        assert_eq!(error.to_string(), "vocab: token 300 repeats token 7");
    }

    #[test]
    fn tokens_with_one_tag_and_slot_are_told_apart() {
        let texts: Vec<String> = (0..1_000_000_u32).map(|n| n.to_string()).collect();
        let mut by_slot: Vec<(u64, &str)> =
            texts.iter().map(|text| (hash(text.as_bytes()) & !0xFFFF_FFF0, text.as_str())).collect();
        by_slot.sort_unstable();
        let alike: Vec<_> = by_slot.windows(2).filter(|pair| pair[0].0 == pair[1].0).collect();
        assert!(!alike.is_empty());
        for pair in alike {
            let mut vocab = Vocab::with_capacity(1, 8);
            vocab.push(String::new, |out| normal(out, pair[0].1)).unwrap();
            assert_eq!((vocab.find(pair[0].1.as_bytes()), vocab.find(pair[1].1.as_bytes())), (Some(0), None));
        }
    }

    #[test]
    fn first_of_repeated_merges_counts() {
        let mut merges = Merges::with_capacity(1);
        for (left, right, id) in [(1, 2, 9), (1, 2, 10), (2, 1, 11)] {
            merges.push(left, right, id);
        }
        let merges = merges.table();
        assert_eq!(merges.find(1, 2), Some((0, 9)));
        assert_eq!(merges.find(2, 1), Some((2, 11)));
        assert_eq!(merges.find(2, 2), None);
        assert_eq!(merges.find(NO_TOKEN, NO_TOKEN), None);
    }
}
