//! The fields of `tokenizer.json` and `tokenizer_config.json` that are read, borrowed from the file's text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use crate::error::{ErrorKind, TokenizerError};

/// Many texts in one buffer, without escapes.
#[derive(Debug, Default)]
struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    fn push<E: de::Error>(&mut self, text: &str) -> Result<(), E> {
        self.text.push_str(text);
        let end = u32::try_from(self.text.len());
        self.ends.push(end.map_err(|_| E::custom("the texts of a list have more than 4 GiB"))?);
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start as usize..end as usize])
    }
}

/// Reads one string to the end of the buffer.
impl<'de> DeserializeSeed<'de> for &mut Texts {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for &mut Texts {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.push(text)
    }
}

/// `tokenizer.json`.
#[derive(Debug, serde::Deserialize)]
pub(super) struct File<'f> {
    #[serde(borrow, default)]
    pub added_tokens: Vec<Added<'f>>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    pub model: Bpe,
}

/// An entry of `added_tokens`.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Added<'f> {
    pub id: u32,
    #[serde(borrow)]
    pub content: Cow<'f, str>,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub special: bool,
}

/// The `model` section.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Bpe {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub dropout: Option<f64>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub byte_fallback: Option<bool>,
    pub ignore_merges: Option<bool>,
    pub vocab: VocabList,
    /// Required for BPE; other models, refused by name, have none.
    pub merges: Option<MergeList>,
}

/// `model.vocab`: texts with their ids, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct VocabList {
    texts: Texts,
    pub ids: Vec<u32>,
}

impl VocabList {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.texts.iter().zip(self.ids.iter().copied())
    }
}

/// `model.merges`: pairs, written `"a b"` or `["a", "b"]`, one text after the other.
#[derive(Debug, Default)]
pub(super) struct MergeList(Texts);

impl MergeList {
    pub(super) fn len(&self) -> usize {
        self.0.ends.len() / 2
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.0.iter();
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }
}

struct VocabVisitor;

impl<'de> Visitor<'de> for VocabVisitor {
    type Value = VocabList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts and ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabList, A::Error> {
        let mut list = VocabList::default();
        while map.next_key_seed(&mut list.texts)?.is_some() {
            list.ids.push(map.next_value()?);
        }
        Ok(list)
    }

    /// Other models (`Unigram`) list pieces; the model's type says so and is refused by name.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<VocabList, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(VocabList::default())
    }
}

impl<'de> Deserialize<'de> for VocabList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabVisitor)
    }
}

struct MergeListVisitor;

impl<'de> Visitor<'de> for MergeListVisitor {
    type Value = MergeList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MergeList, A::Error> {
        let mut merges = MergeList::default();
        while seq.next_element_seed(MergeInto(&mut merges.0))?.is_some() {}
        Ok(merges)
    }
}

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MergeListVisitor)
    }
}

/// Reads one merge to the end of the buffer.
struct MergeInto<'t>(&'t mut Texts);

impl<'de> Visitor<'de> for MergeInto<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two tokens")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        let Some((left, right)) = text.split_once(' ') else {
            return Err(E::custom(format!("model.merges: {text:?} is not two tokens")));
        };
        self.0.push(left)?;
        self.0.push(right)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0..2 {
            let text = seq.next_element_seed(&mut *self.0)?;
            text.ok_or_else(|| de::Error::invalid_length(index, &"a merge of two tokens"))?;
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(de::Error::invalid_length(3, &"a merge of two tokens")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for MergeInto<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A parse error, with the field that is missing if that is what it says.
fn malformed(error: serde_json::Error) -> TokenizerError {
    let text = error.to_string();
    match text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => TokenizerError::new(ErrorKind::MissingField, field),
        None => TokenizerError::new(ErrorKind::Malformed, "JSON").because(error),
    }
}

impl<'f> File<'f> {
    pub(super) fn parse(text: &'f str) -> Result<Self, TokenizerError> {
        serde_json::from_str(text).map_err(malformed)
    }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` add.
#[derive(Debug, Default, Clone)]
pub(super) struct Settings {
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub pad_token: Option<String>,
    pub unk_token: Option<String>,
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
    pub chat_template: Option<String>,
}

impl Settings {
    pub(super) fn parse(text: &str) -> Result<Self, TokenizerError> {
        let value: Value = serde_json::from_str(text).map_err(malformed)?;
        let Value::Object(fields) = value else {
            return Err(TokenizerError::bad("the file", "is not a JSON object"));
        };
        let name = |field: &str| match fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Object(token)) => Ok(token.get("content").and_then(Value::as_str).map(str::to_owned)),
            Some(other) => Err(TokenizerError::bad(field, format!("{other} is no token"))),
        };
        let flag = |field: &str| fields.get(field).and_then(Value::as_bool);
        Ok(Self {
            bos_token: name("bos_token")?,
            eos_token: name("eos_token")?,
            pad_token: name("pad_token")?,
            unk_token: name("unk_token")?,
            add_bos_token: flag("add_bos_token"),
            add_eos_token: flag("add_eos_token"),
            chat_template: fields.get("chat_template").and_then(template),
        })
    }

    /// Puts what `other` says over what is here.
    pub(super) fn overlay(&mut self, other: Self) {
        let over = |here: &mut Option<String>, there: Option<String>| {
            if there.is_some() {
                *here = there;
            }
        };
        over(&mut self.bos_token, other.bos_token);
        over(&mut self.eos_token, other.eos_token);
        over(&mut self.pad_token, other.pad_token);
        over(&mut self.unk_token, other.unk_token);
        over(&mut self.chat_template, other.chat_template);
        self.add_bos_token = other.add_bos_token.or(self.add_bos_token);
        self.add_eos_token = other.add_eos_token.or(self.add_eos_token);
    }
}

/// `chat_template` is a text, or a list of named ones of which `default` counts.
fn template(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str().map(str::to_owned)),
        _ => None,
    }
}
