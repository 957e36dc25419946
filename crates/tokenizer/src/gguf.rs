//! Vocabularies of GGUF files: reading `tokenizer.ggml.*` through a small trait, and listing what an exporter writes.

mod on_demand;
mod scores;

pub use on_demand::GgufVocabulary;

use crate::added::{AddedToken, AddedTokens};
use crate::assemble::{Listed, Spelling, merges, vocabulary};
use crate::bytes::spell;
use crate::error::{ErrorKind, TokenizerError};
use crate::json::spm_byte_ids;
use crate::model::{ByteLevel, Model, SPACE_MARK, SpacePrefix, Spm, SpmRule};
use crate::split::PreTokenizer;
use crate::tokenizer::{END_OF_TURN, SpecialIds, Tokenizer};
use crate::vocab::{Merges, TokenKind};

/// Read access to the metadata of a GGUF file. Every method gives `None` where the key is absent or has another type.
pub trait GgufLookup {
    /// A string.
    fn string(&self, key: &str) -> Option<&str>;
    /// Calls `each` with the strings of an array, in order; it may have been called where the answer is `None`.
    fn for_each_string<'a>(&'a self, key: &str, each: &mut dyn FnMut(&'a str)) -> Option<()>;
    /// An array of strings.
    fn strings(&self, key: &str) -> Option<Vec<&str>> {
        let mut strings = Vec::new();
        self.for_each_string(key, &mut |text| strings.push(text))?;
        Some(strings)
    }
    /// An array of 32-bit floats.
    fn floats(&self, key: &str) -> Option<Vec<f32>>;
    /// An array of 32-bit integers.
    fn integers(&self, key: &str) -> Option<Vec<i32>>;
    /// An unsigned integer of any width.
    fn integer(&self, key: &str) -> Option<u64>;
    /// A boolean.
    fn boolean(&self, key: &str) -> Option<bool>;
}

/// A metadata value to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// A string.
    String(String),
    /// An array of strings.
    Strings(Vec<String>),
    /// An array of 32-bit floats.
    Floats(Vec<f32>),
    /// An array of 32-bit integers.
    Integers(Vec<i32>),
    /// A 32-bit unsigned integer.
    U32(u32),
    /// A boolean.
    Bool(bool),
}

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const PAD: &str = "tokenizer.ggml.padding_token_id";
const UNK: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
const EXTRA_SPACE: &str = "tokenizer.ggml.remove_extra_whitespaces";
const TEMPLATE: &str = "tokenizer.chat_template";

impl Tokenizer {
    /// Reads the vocabulary of a GGUF file: `tokenizer.ggml.model` "gpt2" with the pre-tokenizers of `split.rs`, and
    /// "llama". Errors name the key.
    pub fn from_gguf(gguf: &dyn GgufLookup) -> Result<Self, TokenizerError> {
        let missing = |key: &str| TokenizerError::new(ErrorKind::MissingField, key);
        let kind = gguf.string(MODEL).ok_or_else(|| missing(MODEL))?;
        let texts = gguf.strings(TOKENS).ok_or_else(|| missing(TOKENS))?;
        let kinds = token_kinds(gguf, texts.len())?;
        let listed = texts.iter().zip(&kinds);
        let listed = listed.map(|(&text, &kind)| Listed { text, kind, is_in_model: true });
        let (spelling, pre) = match kind {
            "gpt2" => {
                let name = gguf.string(PRE).unwrap_or("default");
                let pre = PreTokenizer::from_gguf_name(name);
                (
                    Spelling::ByteLevel,
                    Some(pre.ok_or_else(|| TokenizerError::unsupported(PRE, format!("{name:?}")))?),
                )
            }
            "llama" => (Spelling::Spm, None),
            other => return Err(TokenizerError::unsupported(MODEL, format!("{other:?}"))),
        };
        let vocab = vocabulary(spelling, listed, TOKENS)?;
        let added = added_tokens(texts.iter().copied(), &kinds);
        let model = match pre {
            Some(pre) => {
                let merges = read_merges(gguf, &vocab, &added)?;
                Model::ByteLevel(ByteLevel::new(
                    pre.stages.to_vec(),
                    pre.ignore_merges,
                    merges,
                    &vocab,
                    TOKENS,
                )?)
            }
            None => Model::Spm(spm(gguf, &vocab)?),
        };
        let special = special_ids(gguf, texts.len(), &added)?;
        let adds_bos = gguf.boolean(ADD_BOS).unwrap_or(pre.is_none_or(PreTokenizer::adds_bos_by_default));
        Ok(Self {
            adds_bos: adds_bos && special.bos.is_some(),
            adds_eos: gguf.boolean(ADD_EOS).unwrap_or(false) && special.eos.is_some(),
            chat_template: gguf.string(TEMPLATE).map(str::to_owned),
            gguf_pre: pre.map(|pre| pre.name),
            vocab,
            model,
            added,
            special,
        })
    }

    /// The metadata that makes a GGUF file of this vocabulary, by key. A vocabulary that would encode otherwise when
    /// read back is an error that says why.
    pub fn to_gguf_metadata(&self) -> Result<Vec<(&'static str, GgufValue)>, TokenizerError> {
        if let Some(token) = self.added.iter().find(|token| token.strips_left || token.strips_right) {
            let why = format!("added token {:?} takes white space beside it along", token.text);
            return Err(TokenizerError::unsupported(TOKENS, why));
        }
        let mut metadata = match &self.model {
            Model::ByteLevel(model) => {
                let name = PreTokenizer::gguf_name(&model.stages, model.ignore_merges);
                let pre = self.gguf_pre.or(name).ok_or_else(|| {
                    let why =
                        format!("no GGUF name for {:?}, ignore_merges {}", model.stages, model.ignore_merges);
                    TokenizerError::unsupported(PRE, why)
                })?;
                let merges = model.merges.pairs().iter();
                let merges =
                    merges.map(|&(left, right)| format!("{} {}", self.spelled(left), self.spelled(right)));
                vec![
                    (MODEL, GgufValue::String("gpt2".into())),
                    (PRE, GgufValue::String(pre.into())),
                    (MERGES, GgufValue::Strings(merges.collect())),
                ]
            }
            Model::Spm(model) => vec![
                (MODEL, GgufValue::String("llama".into())),
                (PRE, GgufValue::String("default".into())),
                (SCORES, GgufValue::Floats(scores::scores(&self.vocab, model)?)),
                (ADD_SPACE, GgufValue::Bool(model.prefix != SpacePrefix::Never)),
            ],
        };
        let ids = 0..self.vocab.len() as u32;
        let kind = |id| self.vocab.entry(id).map_or(TokenKind::Unused, |entry| entry.kind);
        metadata.push((TOKENS, GgufValue::Strings(ids.clone().map(|id| self.spelled(id)).collect())));
        metadata.push((TYPES, GgufValue::Integers(ids.map(|id| kind(id) as i32).collect())));
        let special = &self.special;
        for (key, id) in [
            (BOS, special.bos),
            (EOS, special.eos),
            (EOT, special.end_of_turn),
            (PAD, special.pad),
            (UNK, special.unk),
        ] {
            metadata.extend(id.map(|id| (key, GgufValue::U32(id))));
        }
        metadata.push((ADD_BOS, GgufValue::Bool(self.adds_bos)));
        metadata.push((ADD_EOS, GgufValue::Bool(self.adds_eos)));
        metadata.extend(self.chat_template.clone().map(|text| (TEMPLATE, GgufValue::String(text))));
        Ok(metadata)
    }

    /// Token `id` as the file formats spell it; holes get a name that no text contains by chance.
    pub(crate) fn spelled(&self, id: u32) -> String {
        let bytes = self.vocab.bytes(id);
        let text = || String::from_utf8_lossy(bytes).into_owned();
        let Some(entry) = self.vocab.entry(id) else { return String::new() };
        match (entry.kind, &self.model) {
            (TokenKind::Unused, _) if bytes.is_empty() => format!("[PAD{id}]"),
            (TokenKind::Byte, _) => format!("<0x{:02X}>", bytes.first().copied().unwrap_or(0)),
            (TokenKind::Normal, Model::ByteLevel(_)) if !entry.is_literal => spell(bytes),
            (TokenKind::Normal, Model::Spm(_)) if !entry.is_literal => {
                text().replace(' ', &SPACE_MARK.to_string())
            }
            _ => text(),
        }
    }
}

fn token_kinds(gguf: &dyn GgufLookup, count: usize) -> Result<Vec<TokenKind>, TokenizerError> {
    let Some(types) = gguf.integers(TYPES) else { return Ok(vec![TokenKind::Normal; count]) };
    if types.len() != count {
        return Err(TokenizerError::bad(TYPES, format!("{} types for {count} tokens", types.len())));
    }
    let kind = |(index, &number): (usize, &i32)| {
        TokenKind::from_gguf(number).ok_or_else(|| {
            TokenizerError::bad(format!("{TYPES}[{index}]"), format!("no token type {number}"))
        })
    };
    types.iter().enumerate().map(kind).collect()
}

fn added_tokens<'f>(texts: impl Iterator<Item = &'f str>, kinds: &[TokenKind]) -> AddedTokens {
    let listed = texts.zip(kinds).enumerate();
    let tokens = listed.filter_map(|(id, (text, kind))| {
        let is_control = match kind {
            TokenKind::Control | TokenKind::Unknown => true,
            TokenKind::UserDefined => false,
            _ => return None,
        };
        let text = text.to_owned();
        Some(AddedToken { id: id as u32, text, is_control, strips_left: false, strips_right: false })
    });
    AddedTokens::new(tokens.collect())
}

/// Where the space between the two tokens of a merge is: a token never begins with a space, but may be one.
fn cut(merge: &str) -> Option<usize> {
    let first = merge.chars().next()?.len_utf8();
    merge.as_bytes()[first..].iter().position(|&byte| byte == b' ').map(|at| first + at)
}

fn read_merges(
    gguf: &dyn GgufLookup,
    vocab: &crate::vocab::Vocab,
    added: &AddedTokens,
) -> Result<Merges, TokenizerError> {
    let texts = gguf.strings(MERGES).ok_or_else(|| TokenizerError::new(ErrorKind::MissingField, MERGES))?;
    let pair = |(index, text): (usize, &&'_ str)| -> Result<_, TokenizerError> {
        let at = cut(text).ok_or_else(|| {
            TokenizerError::bad(format!("{MERGES}[{index}]"), format!("{text:?} is not two tokens"))
        })?;
        Ok((at, index))
    };
    let cuts: Vec<(usize, usize)> = texts.iter().enumerate().map(pair).collect::<Result<_, _>>()?;
    let listed = cuts.iter().map(|&(at, index)| (&texts[index][..at], &texts[index][at + 1..]));
    let is_control = |text: &str| added.at(text.as_bytes(), true).is_some_and(|t| t.text == text);
    merges(Spelling::ByteLevel, vocab, (texts.len(), listed), is_control, MERGES)
}

fn spm(gguf: &dyn GgufLookup, vocab: &crate::vocab::Vocab) -> Result<Spm, TokenizerError> {
    if gguf.boolean(EXTRA_SPACE) == Some(true) {
        return Err(TokenizerError::unsupported(EXTRA_SPACE, "true"));
    }
    let scores = read_scores(gguf, vocab.len())?;
    let adds_space = gguf.boolean(ADD_SPACE).unwrap_or(true);
    Ok(Spm {
        rule: SpmRule::Priorities(scores.into_iter().map(scores::priority).collect()),
        byte_ids: spm_byte_ids(vocab, TOKENS)?,
        prefix: if adds_space { SpacePrefix::EachSegment } else { SpacePrefix::Never },
        prefix_only_words: false,
        splits_words: false,
    })
}

/// A score for each of `count` tokens.
fn read_scores(gguf: &dyn GgufLookup, count: usize) -> Result<Vec<f32>, TokenizerError> {
    let scores = gguf.floats(SCORES).ok_or_else(|| TokenizerError::new(ErrorKind::MissingField, SCORES))?;
    if scores.len() != count {
        let why = format!("{} scores for {count} tokens", scores.len());
        return Err(TokenizerError::bad(SCORES, why));
    }
    match scores.iter().position(|score| score.is_nan()) {
        Some(index) => Err(TokenizerError::bad(format!("{SCORES}[{index}]"), "not a number")),
        None => Ok(scores),
    }
}

fn special_ids(
    gguf: &dyn GgufLookup,
    count: usize,
    added: &AddedTokens,
) -> Result<SpecialIds, TokenizerError> {
    let id = |key: &str| match gguf.integer(key) {
        None => Ok(None),
        Some(id) if id < count as u64 => Ok(Some(id as u32)),
        // "none", as some converters write it
        Some(id) if id == u64::from(u32::MAX) => Ok(None),
        Some(id) => Err(TokenizerError::bad(key, format!("id {id} is out of range for {count} tokens"))),
    };
    let by_name = || {
        let find = |name: &&str| added.at(name.as_bytes(), true).filter(|token| token.text == **name);
        END_OF_TURN.iter().find_map(find).map(|token| token.id)
    };
    Ok(SpecialIds {
        bos: id(BOS)?,
        eos: id(EOS)?,
        pad: id(PAD)?,
        unk: id(UNK)?,
        end_of_turn: id(EOT)?.or_else(by_name),
    })
}
