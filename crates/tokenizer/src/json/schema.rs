//! The fields of `tokenizer.json` and `tokenizer_config.json` that are read, borrowed from the file's text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{ErrorKind, TokenizerError};

/// A string borrowed from the file where it has no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text<'f>(pub Cow<'f, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de: 'f, 'f> Deserialize<'de> for Text<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
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
    #[serde(borrow)]
    pub model: Bpe<'f>,
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
pub(super) struct Bpe<'f> {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub dropout: Option<f64>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub byte_fallback: Option<bool>,
    pub ignore_merges: Option<bool>,
    #[serde(borrow)]
    pub vocab: VocabList<'f>,
    /// Required for BPE; other models, refused by name, have none.
    #[serde(borrow)]
    pub merges: Option<MergeList<'f>>,
}

/// `model.vocab`: texts with their ids, in the order of the file.
#[derive(Debug)]
pub(super) struct VocabList<'f>(pub Vec<(Text<'f>, u32)>);

/// `model.merges`: pairs, written `"a b"` or `["a", "b"]`.
#[derive(Debug, Default)]
pub(super) struct MergeList<'f>(pub Vec<(Text<'f>, Text<'f>)>);

struct VocabVisitor;

impl<'de> Visitor<'de> for VocabVisitor {
    type Value = VocabList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts and ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabList<'de>, A::Error> {
        let mut tokens = Vec::new();
        while let Some(entry) = map.next_entry::<Text<'de>, u32>()? {
            tokens.push(entry);
        }
        Ok(VocabList(tokens))
    }

    /// Other models (`Unigram`) list pieces; the model's type says so and is refused by name.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<VocabList<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(VocabList(Vec::new()))
    }
}

impl<'de: 'f, 'f> Deserialize<'de> for VocabList<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabVisitor)
    }
}

struct MergeListVisitor;

impl<'de> Visitor<'de> for MergeListVisitor {
    type Value = MergeList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MergeList<'de>, A::Error> {
        let mut merges = Vec::new();
        while let Some(Merge(left, right)) = seq.next_element()? {
            merges.push((left, right));
        }
        Ok(MergeList(merges))
    }
}

impl<'de: 'f, 'f> Deserialize<'de> for MergeList<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MergeListVisitor)
    }
}

struct Merge<'f>(Text<'f>, Text<'f>);

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two tokens")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Merge<'de>, E> {
        match text.split_once(' ') {
            Some((left, right)) => Ok(Merge(Text(Cow::Borrowed(left)), Text(Cow::Borrowed(right)))),
            None => Err(E::custom(format!("model.merges: {text:?} is not two tokens"))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Merge<'de>, E> {
        let owned = |part: &str| Text(Cow::Owned(part.to_owned()));
        match text.split_once(' ') {
            Some((left, right)) => Ok(Merge(owned(left), owned(right))),
            None => Err(E::custom(format!("model.merges: {text:?} is not two tokens"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge<'de>, A::Error> {
        let left = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let right = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Merge(left, right)),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}

impl<'de: 'f, 'f> Deserialize<'de> for Merge<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
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
