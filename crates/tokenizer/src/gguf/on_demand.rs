//! The vocabulary of a GGUF file for few short texts: the tables of all tokens and merges are built where they are
//! worth it.
//!
//! A token can be in the ids of a text only if it stands in the text, and a merge can apply only if what it gives does.
//! So a short text is encoded by a vocabulary of those alone (with all control tokens and single characters), found by
//! one look at each string of the file. The code that builds the whole builds it too, and it gives the same ids.

mod lists;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::{
    BOS, EOS, EOT, GgufLookup, MERGES, MODEL, PAD, SCORES, TOKENS, TYPES, UNK, added_tokens, cut,
    read_scores, special_ids, token_kinds,
};
use crate::assemble::{Listed, Spelling, decode_token};
use crate::bytes::spell;
use crate::error::TokenizerError;
use crate::model::SPACE_MARK;
use crate::tokenizer::{SpecialIds, Tokenizer};
use crate::vocab::TokenKind;
use lists::Lists;

/// Bytes of the longest text that is encoded without the tables of all tokens.
const SHORT: usize = 1 << 10;
/// About so many short texts take as long as building these tables.
const FEW: usize = 8;

/// The vocabulary of a GGUF file, of which little is built before it is needed.
///
/// Opening it checks what [`Tokenizer::from_gguf`] checks but for two things that take all tables: a token that repeats
/// another, and a merge of or into something that is no token. Those are errors once a text can meet them.
#[derive(Debug)]
pub struct GgufVocabulary {
    lists: Lists,
    kinds: Vec<TokenKind>,
    special: SpecialIds,
    adds_bos: bool,
    /// Tokens that every part has: control tokens and single characters, ascending.
    always: Vec<u32>,
    /// Short texts encoded so far.
    short_texts: AtomicUsize,
    whole: OnceLock<Arc<Tokenizer>>,
}

impl GgufVocabulary {
    /// Copies the lists of the file.
    ///
    /// # Errors
    /// Names the key that is missing or cannot be used.
    pub fn from_gguf(gguf: &dyn GgufLookup) -> Result<Self, TokenizerError> {
        let lists = Lists::copy(gguf)?;
        let count = lists.tokens.len();
        let kinds = token_kinds(&lists, count)?;
        let special = special_ids(&lists, count, &added_tokens(lists.tokens.iter(), &kinds))?;
        let (short_texts, whole) = (AtomicUsize::new(0), OnceLock::new());
        let always = Vec::new();
        let mut vocabulary = Self { lists, kinds, special, adds_bos: false, always, short_texts, whole };
        if vocabulary.spelling() == Spelling::Spm {
            read_scores(&vocabulary.lists, count)?;
        }
        vocabulary.always = vocabulary.always_kept();
        vocabulary.adds_bos = vocabulary.part(None)?.0.adds_bos;
        Ok(vocabulary)
    }

    /// [`Tokenizer::encode`].
    ///
    /// # Errors
    /// A repeated token, or a merge of or into something that is no token.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let is_whole = self.whole.get().is_some() || text.len() > SHORT;
        if is_whole || self.short_texts.fetch_add(1, Ordering::Relaxed) >= FEW {
            self.tokenizer()?.encode(text, ids);
            return Ok(());
        }
        let (tokenizer, numbers) = self.part(Some(text))?;
        let start = ids.len();
        tokenizer.encode(text, ids);
        ids[start..].iter_mut().for_each(|id| *id = numbers[*id as usize]);
        Ok(())
    }

    /// The whole, built when first asked for.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`].
    pub fn tokenizer(&self) -> Result<&Arc<Tokenizer>, TokenizerError> {
        if let Some(whole) = self.whole.get() {
            return Ok(whole);
        }
        let whole = Arc::new(Tokenizer::from_gguf(&self.lists)?);
        Ok(self.whole.get_or_init(|| whole))
    }

    /// [`Tokenizer::token_bytes`].
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(&kind) = self.kinds.get(id as usize) {
            let text = self.lists.tokens.get(id as usize);
            // a byte token that names no byte is an error when the vocabulary is opened
            let _ = decode_token(self.spelling(), Listed { text, kind, is_in_model: true }, &mut bytes);
        }
        bytes
    }

    /// [`Tokenizer::vocab_size`].
    pub fn vocab_size(&self) -> usize {
        self.kinds.len()
    }

    /// [`Tokenizer::is_special`].
    pub fn is_special(&self, id: u32) -> bool {
        let kind = self.kinds.get(id as usize);
        kind.is_some_and(|kind| matches!(kind, TokenKind::Control | TokenKind::Unknown))
    }

    /// [`Tokenizer::special_ids`].
    pub fn special_ids(&self) -> &SpecialIds {
        &self.special
    }

    /// [`Tokenizer::adds_bos`].
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// [`Tokenizer::chat_template`].
    pub fn chat_template(&self) -> Option<&str> {
        self.lists.string(super::TEMPLATE)
    }

    fn spelling(&self) -> Spelling {
        if self.lists.string(MODEL) == Some("llama") { Spelling::Spm } else { Spelling::ByteLevel }
    }

    /// Everything but ordinary tokens of several characters that no key names.
    fn always_kept(&self) -> Vec<u32> {
        let special = &self.special;
        let named = [special.bos, special.eos, special.pad, special.unk, special.end_of_turn];
        let is_kept = |(id, text, kind): &(u32, &str, TokenKind)| match kind {
            TokenKind::Normal => is_one_char(text) || named.contains(&Some(*id)),
            _ => *kind != TokenKind::Unused || named.contains(&Some(*id)),
        };
        let tokens = self.lists.tokens.iter().zip(&self.kinds).zip(0..);
        tokens.map(|((text, kind), id)| (id, text, *kind)).filter(is_kept).map(|(id, ..)| id).collect()
    }

    /// A vocabulary that encodes `text` as the whole does, and the ids of its tokens in the whole.
    fn part(&self, text: Option<&str>) -> Result<(Tokenizer, Vec<u32>), TokenizerError> {
        let part = Part::new(self, text);
        match Tokenizer::from_gguf(&part) {
            Ok(tokenizer) => Ok((tokenizer, part.ids)),
            // the whole names the place in the file
            Err(error) => Err(self.tokenizer().err().unwrap_or(error)),
        }
    }
}

fn is_one_char(text: &str) -> bool {
    text.len() <= 4 && text.chars().nth(1).is_none()
}

/// The tokens and merges that can matter to a text, as a file of their own.
struct Part<'v> {
    lists: &'v Lists,
    /// Ids of the tokens, ascending.
    ids: Vec<u32>,
    merges: Vec<&'v str>,
}

impl<'v> Part<'v> {
    fn new(vocabulary: &'v GgufVocabulary, text: Option<&str>) -> Self {
        let lists = &vocabulary.lists;
        let found = text.map(|text| Found::new(vocabulary.spelling(), text));
        let mut ids = vocabulary.always.clone();
        if let Some(found) = &found {
            let tokens = lists.tokens.iter().zip(&vocabulary.kinds).zip(0..);
            let stands = tokens.filter(|((text, kind), _)| **kind == TokenKind::Normal && found.token(text));
            ids.extend(stands.map(|(_, id)| id));
            ids.sort_unstable();
            ids.dedup();
        }
        let merges = lists.merges.iter().flat_map(|merges| merges.iter());
        let is_kept = |merge: &&str| match cut(merge) {
            Some(at) => found.as_ref().is_some_and(|found| found.joined(&merge[..at], &merge[at + 1..])),
            // what is not two tokens is an error
            None => true,
        };
        Self { lists, ids, merges: merges.filter(is_kept).collect() }
    }

    fn of_ids<T>(&self, mut get: impl FnMut(usize) -> Option<T>) -> Option<Vec<T>> {
        self.ids.iter().map(|id| get(*id as usize)).collect()
    }
}

impl GgufLookup for Part<'_> {
    fn string(&self, key: &str) -> Option<&str> {
        self.lists.string(key)
    }

    fn for_each_string<'a>(&'a self, key: &str, each: &mut dyn FnMut(&'a str)) -> Option<()> {
        match key {
            TOKENS => self.ids.iter().for_each(|id| each(self.lists.tokens.get(*id as usize))),
            MERGES => {
                self.lists.merges.as_ref()?;
                self.merges.iter().for_each(|merge| each(merge));
            }
            _ => return None,
        }
        Some(())
    }

    fn floats(&self, key: &str) -> Option<Vec<f32>> {
        let scores = self.lists.scores.as_ref().filter(|_| key == SCORES)?;
        self.of_ids(|id| scores.get(id).copied())
    }

    fn integers(&self, key: &str) -> Option<Vec<i32>> {
        let types = self.lists.types.as_ref().filter(|_| key == TYPES)?;
        self.of_ids(|id| types.get(id).copied())
    }

    fn integer(&self, key: &str) -> Option<u64> {
        let number = self.lists.integer(key)?;
        let id = [BOS, EOS, EOT, PAD, UNK].contains(&key);
        // ids that are none of the vocabulary were looked at before
        let place = || self.ids.binary_search(&u32::try_from(number).ok()?).ok();
        if id { place().map(|place| place as u64) } else { Some(number) }
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        self.lists.boolean(key)
    }
}

/// What stands in a text, in the spelling of a vocabulary.
struct Found {
    text: String,
    spelling: Spelling,
    /// Bit `i` says that up to four bytes with hash `i` stand there.
    starts: Vec<u64>,
}

impl Found {
    fn new(spelling: Spelling, text: &str) -> Self {
        let text = match spelling {
            Spelling::ByteLevel => spell(text.as_bytes()),
            Spelling::Spm => text.replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4])),
        };
        let mut starts = vec![0; (1 << 16) / 64];
        for at in 0..text.len() {
            for len in 1..=(text.len() - at).min(4) {
                let bit = hash(start(&text.as_bytes()[at..at + len], &[]));
                starts[bit / 64] |= 1 << (bit % 64);
            }
        }
        Self { text, spelling, starts }
    }

    fn token(&self, token: &str) -> bool {
        // a space may be put before any part of a text
        let unmarked = token.strip_prefix(SPACE_MARK).filter(|_| self.spelling == Spelling::Spm);
        self.joined(token, "") || unmarked.is_some_and(|token| self.joined(token, ""))
    }

    /// Does `left`, and `right` right behind it, stand in the text?
    #[inline]
    fn joined(&self, left: &str, right: &str) -> bool {
        let bit = hash(start(left.as_bytes(), right.as_bytes()));
        self.starts[bit / 64] >> (bit % 64) & 1 == 1
            && self.text.match_indices(left).any(|(at, _)| self.text[at + left.len()..].starts_with(right))
    }
}

/// The first four bytes of `left` and `right` behind it, zeros if there are fewer.
#[inline]
fn start(left: &[u8], right: &[u8]) -> u32 {
    if let Some(four) = left.first_chunk() {
        return u32::from_le_bytes(*four);
    }
    let word = |word: u32, (at, byte): (usize, &u8)| word | u32::from(*byte) << (8 * at);
    left.iter().chain(right).take(4).enumerate().fold(0, word)
}

/// 16 bits of a start.
#[inline]
fn hash(start: u32) -> usize {
    (start.wrapping_mul(0x9E37_79B1) >> 16) as usize
}
