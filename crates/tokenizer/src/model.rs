//! From a stretch of plain text to ids: byte-level BPE and SentencePiece-style BPE.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::bytes::byte_to_char;
use crate::error::TokenizerError;
use crate::merge::{Merger, NONE, PairRule, Symbol};
use crate::split::{Stage, split};
use crate::vocab::{MergeTable, Merges, Vocab};

/// Where SentencePiece-style models put a space before the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpacePrefix {
    /// Nowhere.
    Never,
    /// At the start of the text only.
    First,
    /// At the start of the text and after every added token.
    EachSegment,
}

/// What stands before a stretch of plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: the text begins here.
    TextStart,
    /// An added token.
    AddedToken,
    /// More of the same text, encoded apart.
    Text,
}

/// Which pairs of a SentencePiece-style model merge first.
#[derive(Debug)]
pub(crate) enum SpmRule {
    /// A list of merges, as `tokenizer.json` has it.
    Merges(Merges),
    /// Any two neighbours that form a token, the one with the lowest priority first (GGUF scores, inverted).
    Priorities(Vec<u32>),
}

/// How plain text becomes ids.
#[derive(Debug)]
pub(crate) enum Model {
    /// Bytes are the alphabet; a pre-tokenizer cuts words first.
    ByteLevel(ByteLevel),
    /// Characters are the alphabet, spaces among them; characters that are no token become byte tokens.
    Spm(Spm),
}

/// Byte-level BPE.
#[derive(Debug)]
pub(crate) struct ByteLevel {
    pub stages: Vec<Stage>,
    pub ignore_merges: bool,
    pub merges: Merges,
    /// Id of every byte. Some vocabularies in use have none for rare bytes, which then vanish from the text.
    pub byte_ids: [u32; 256],
    /// For every token: does its own text encode to it? `UNKNOWN` until first asked.
    pub is_own_encoding: Vec<AtomicU8>,
}

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// SentencePiece-style BPE.
#[derive(Debug)]
pub(crate) struct Spm {
    pub rule: SpmRule,
    /// Id of the token of every byte.
    pub byte_ids: [u32; 256],
    pub prefix: SpacePrefix,
    /// No space is put before text that begins with one.
    pub prefix_only_words: bool,
    /// Words may not merge with each other.
    pub splits_words: bool,
}

/// Longest stretch that is merged as one piece, in bytes; only texts without any cut are longer.
const LONGEST: usize = 1 << 30;

impl Model {
    /// Appends the ids of `text`, in which no added token is looked for.
    pub(crate) fn encode(&self, vocab: &Vocab, text: &str, before: Before, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut merger = Merger::default();
        match self {
            Self::ByteLevel(model) => {
                split(&model.stages, text, &mut |piece| model.encode_piece(vocab, piece, &mut merger, ids));
            }
            Self::Spm(model) => {
                let text = model.escape(text, before);
                let stages: &[Stage] = if model.splits_words { &[Stage::AtSpace] } else { &[] };
                split(stages, &text, &mut |piece| {
                    for part in parts(piece) {
                        model.encode_piece(vocab, part, &mut merger, ids);
                    }
                });
            }
        }
    }
}

/// `text` in parts of at most `LONGEST` bytes, cut between characters.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at(rest.floor_char_boundary(LONGEST));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

impl ByteLevel {
    /// `field` names the vocabulary in errors.
    pub(crate) fn new(
        stages: Vec<Stage>,
        ignore_merges: bool,
        merges: Merges,
        vocab: &Vocab,
        field: &str,
    ) -> Result<Self, TokenizerError> {
        let mut byte_ids = [NONE; 256];
        for (byte, id) in (0..=255_u8).zip(&mut byte_ids) {
            // bytes of control characters, of planes without characters, and those that never occur in UTF-8
            let is_rare =
                matches!(byte, 0..=0x1F | 0x7F | 0xC0 | 0xC1 | 0xF1..=0xFF) && !byte.is_ascii_whitespace();
            let why = || format!("a vocabulary without byte 0x{byte:02X} ({:?})", byte_to_char(byte));
            match vocab.find(&[byte]) {
                Some(found) => *id = found,
                None if is_rare => {}
                None => return Err(TokenizerError::unsupported(field, why())),
            }
        }
        let is_own_encoding = (0..vocab.len()).map(|_| AtomicU8::new(UNKNOWN)).collect();
        Ok(Self { stages, ignore_merges, merges, byte_ids, is_own_encoding })
    }

    fn encode_piece(&self, vocab: &Vocab, piece: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let whole = vocab.find(piece.as_bytes());
        if let Some(id) = whole {
            if self.ignore_merges {
                ids.push(id);
                return;
            }
            match self.is_own_encoding[id as usize].load(Ordering::Relaxed) {
                YES => {
                    ids.push(id);
                    return;
                }
                UNKNOWN => {
                    let start = ids.len();
                    self.merge_piece(piece, merger, ids);
                    let state = if ids[start..] == [id] { YES } else { NO };
                    self.is_own_encoding[id as usize].store(state, Ordering::Relaxed);
                    return;
                }
                _ => {}
            }
        }
        for part in parts(piece) {
            self.merge_piece(part, merger, ids);
        }
    }

    fn merge_piece(&self, piece: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        merger.clear();
        for &byte in piece.as_bytes() {
            merger.push(self.byte_ids[byte as usize], 1);
        }
        merger
            .run(&ByIds(self.merges.table()), |symbol| ids.extend((symbol.id != NONE).then_some(symbol.id)));
    }
}

struct ByIds<'m>(&'m MergeTable);

impl PairRule for ByIds<'_> {
    #[inline]
    fn find(&self, left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        self.0.find(left.id, right.id)
    }
}

struct ByText<'m> {
    vocab: &'m Vocab,
    priorities: &'m [u32],
    text: &'m [u8],
}

impl PairRule for ByText<'_> {
    #[inline]
    fn find(&self, left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        let bytes = &self.text[left.start as usize..(right.start + right.len) as usize];
        let id = self.vocab.find(bytes)?;
        Some((self.priorities[id as usize], id))
    }
}

impl Spm {
    /// The text as the vocabulary spells it: U+2581 is a space, and a space may come first.
    fn escape(&self, text: &str, before: Before) -> String {
        let mut escaped = String::with_capacity(text.len() + 1);
        let wanted = match self.prefix {
            SpacePrefix::Never => false,
            SpacePrefix::First => before == Before::TextStart,
            SpacePrefix::EachSegment => before != Before::Text,
        };
        if wanted && !(self.prefix_only_words && text.starts_with([' ', SPACE_MARK])) {
            escaped.push(' ');
        }
        escaped.extend(text.chars().map(|c| if c == SPACE_MARK { ' ' } else { c }));
        escaped
    }

    fn encode_piece(&self, vocab: &Vocab, piece: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        merger.clear();
        let bytes = piece.as_bytes();
        for (at, c) in piece.char_indices() {
            let len = c.len_utf8();
            match (vocab.find(&bytes[at..at + len]), &self.rule) {
                (Some(id), _) => merger.push(id, len as u32),
                (None, SpmRule::Priorities(_)) => merger.push(NONE, len as u32),
                (None, SpmRule::Merges(_)) => {
                    for &byte in &bytes[at..at + len] {
                        merger.push(self.byte_ids[byte as usize], 1);
                    }
                }
            }
        }
        let mut found = |symbol: &Symbol| {
            if symbol.id != NONE {
                ids.push(symbol.id);
                return;
            }
            let start = symbol.start as usize;
            for &byte in &bytes[start..start + symbol.len as usize] {
                ids.push(self.byte_ids[byte as usize]);
            }
        };
        match &self.rule {
            SpmRule::Merges(merges) => merger.run(&ByIds(merges.table()), &mut found),
            SpmRule::Priorities(priorities) => {
                merger.run(&ByText { vocab, priorities, text: bytes }, &mut found);
            }
        }
    }
}

/// The character that stands for a space in SentencePiece vocabularies.
pub(crate) const SPACE_MARK: char = '\u{2581}';
