//! A copy of the metadata of a vocabulary, one allocation for each list of strings.

use super::super::{
    ADD_BOS, ADD_EOS, ADD_SPACE, BOS, EOS, EOT, EXTRA_SPACE, GgufLookup, MERGES, MODEL, PAD, PRE, SCORES,
    TEMPLATE, TOKENS, TYPES, UNK,
};
use crate::error::{ErrorKind, TokenizerError};

/// The metadata that [`crate::Tokenizer::from_gguf`] asks for.
#[derive(Debug)]
pub(super) struct Lists {
    pub tokens: Texts,
    pub merges: Option<Texts>,
    pub types: Option<Vec<i32>>,
    pub scores: Option<Vec<f32>>,
    strings: Vec<(&'static str, String)>,
    integers: Vec<(&'static str, u64)>,
    booleans: Vec<(&'static str, bool)>,
}

impl Lists {
    /// Takes over what is there and has the right type; tokens must be.
    pub fn copy(gguf: &dyn GgufLookup) -> Result<Self, TokenizerError> {
        let missing = |key: &str| TokenizerError::new(ErrorKind::MissingField, key);
        let strings = [MODEL, PRE, TEMPLATE].into_iter();
        let strings: Vec<_> = strings.filter_map(|key| Some((key, gguf.string(key)?.to_owned()))).collect();
        if strings.first().is_none_or(|(key, _)| *key != MODEL) {
            return Err(missing(MODEL));
        }
        let integers = [BOS, EOS, EOT, PAD, UNK].into_iter();
        let booleans = [ADD_BOS, ADD_EOS, ADD_SPACE, EXTRA_SPACE].into_iter();
        Ok(Self {
            tokens: Texts::copy(gguf, TOKENS)?.ok_or_else(|| missing(TOKENS))?,
            merges: Texts::copy(gguf, MERGES)?,
            types: gguf.integers(TYPES),
            scores: gguf.floats(SCORES),
            strings,
            integers: integers.filter_map(|key| Some((key, gguf.integer(key)?))).collect(),
            booleans: booleans.filter_map(|key| Some((key, gguf.boolean(key)?))).collect(),
        })
    }
}

fn of<'l, T>(list: &'l [(&'static str, T)], key: &str) -> Option<&'l T> {
    list.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
}

impl GgufLookup for Lists {
    fn string(&self, key: &str) -> Option<&str> {
        of(&self.strings, key).map(String::as_str)
    }

    fn for_each_string<'a>(&'a self, key: &str, each: &mut dyn FnMut(&'a str)) -> Option<()> {
        let texts = match key {
            TOKENS => &self.tokens,
            MERGES => self.merges.as_ref()?,
            _ => return None,
        };
        texts.iter().for_each(each);
        Some(())
    }

    fn floats(&self, key: &str) -> Option<Vec<f32>> {
        self.scores.clone().filter(|_| key == SCORES)
    }

    fn integers(&self, key: &str) -> Option<Vec<i32>> {
        self.types.clone().filter(|_| key == TYPES)
    }

    fn integer(&self, key: &str) -> Option<u64> {
        of(&self.integers, key).copied()
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        of(&self.booleans, key).copied()
    }
}

/// Strings one after the other.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: String,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Texts {
    fn copy(gguf: &dyn GgufLookup, key: &str) -> Result<Option<Self>, TokenizerError> {
        let mut texts = Self::default();
        let mut push = |text: &str| {
            texts.bytes.push_str(text);
            texts.ends.push(u32::try_from(texts.bytes.len()).unwrap_or(u32::MAX));
        };
        let Some(()) = gguf.for_each_string(key, &mut push) else { return Ok(None) };
        if u32::try_from(texts.bytes.len()).is_err() {
            return Err(TokenizerError::bad(key, "the strings together have more than 4 GiB"));
        }
        Ok(Some(texts))
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Text `index`; empty if there is none.
    pub fn get(&self, index: usize) -> &str {
        let Some(&end) = self.ends.get(index) else { return "" };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start as usize..end as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends
            .iter()
            .map(move |&end| &self.bytes[std::mem::replace(&mut start, end as usize)..end as usize])
    }
}
