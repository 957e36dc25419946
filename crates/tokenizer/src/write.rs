//! Writing `tokenizer.json`: one writer, for trained and for imported vocabularies.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::error::TokenizerError;
use crate::model::{Model, SPACE_MARK, SpacePrefix, Spm, SpmRule};
use crate::split::{GPT2_PATTERN, Stage};
use crate::tokenizer::Tokenizer;
use crate::vocab::{TokenKind, Vocab};

/// What a `tokenizer.json` says.
#[derive(Debug, Clone)]
pub(crate) struct ModelFile {
    /// Token strings by id; holes are empty.
    pub tokens: Vec<String>,
    pub merges: Vec<(String, String)>,
    /// Id, text, and whether it is a control token.
    pub added: Vec<(u32, String, bool)>,
    pub scheme: FileScheme,
    pub unk: Option<String>,
    /// Control token that the post-processor puts before a text, and after it.
    pub bos: Option<u32>,
    pub eos: Option<u32>,
}

/// The sections that differ between the kinds of vocabularies.
#[derive(Debug, Clone)]
pub(crate) enum FileScheme {
    ByteLevel { stages: Vec<Stage>, ignore_merges: bool },
    Spm { prefix: SpacePrefix, prefix_only_words: bool, splits_words: bool },
}

impl Tokenizer {
    /// The text of a `tokenizer.json` that encodes as this vocabulary does.
    pub fn to_tokenizer_json(&self) -> Result<String, TokenizerError> {
        let (scheme, pairs) = match &self.model {
            Model::ByteLevel(model) => {
                if model.stages.iter().any(|stage| matches!(stage, Stage::Punctuation(_))) {
                    let why = "the punctuation stage of this GGUF pre-tokenizer";
                    return Err(TokenizerError::unsupported("pre_tokenizer", why));
                }
                let (stages, ignore_merges) = (model.stages.clone(), model.ignore_merges);
                (FileScheme::ByteLevel { stages, ignore_merges }, model.merges.pairs().to_vec())
            }
            Model::Spm(Spm { prefix, prefix_only_words, splits_words, rule, .. }) => {
                let (prefix, prefix_only_words, splits_words) = (*prefix, *prefix_only_words, *splits_words);
                let pairs = match rule {
                    SpmRule::Merges(merges) => merges.pairs().to_vec(),
                    SpmRule::Priorities(priorities) => pairs_of(&self.vocab, priorities),
                };
                (FileScheme::Spm { prefix, prefix_only_words, splits_words }, pairs)
            }
        };
        let spelled = |id| self.spelled(id);
        let unk = self.special.unk.filter(|id| self.token_kind(*id) == Some(TokenKind::Unknown));
        let added = self.added.iter().map(|token| (token.id, token.text.clone(), token.is_control));
        let mut added: Vec<_> = added.collect();
        added.sort();
        let file = ModelFile {
            tokens: (0..self.vocab.len() as u32).map(spelled).collect(),
            merges: pairs.into_iter().map(|(left, right)| (spelled(left), spelled(right))).collect(),
            added,
            scheme,
            unk: unk.map(spelled),
            bos: self.special.bos.filter(|_| self.adds_bos),
            eos: self.special.eos.filter(|_| self.adds_eos),
        };
        Ok(tokenizer_json(&file))
    }
}

/// The list of merges that a vocabulary with priorities stands for: every way to make a token of two others, best
/// tokens first.
fn pairs_of(vocab: &Vocab, priorities: &[u32]) -> Vec<(u32, u32)> {
    let mut pairs = Vec::new();
    for id in (0..vocab.len() as u32).filter(|&id| vocab.is_searched(id)) {
        let bytes = vocab.bytes(id);
        for cut in 1..bytes.len() {
            if let (Some(left), Some(right)) = (vocab.find(&bytes[..cut]), vocab.find(&bytes[cut..])) {
                pairs.push((priorities[id as usize], left, right));
            }
        }
    }
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, left, right)| (left, right)).collect()
}

/// JSON with two spaces of indentation and a final newline.
#[cfg(feature = "train")]
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A string as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The file's text. Tokens and merges stand on lines of their own, so that two files can be compared.
pub(crate) fn tokenizer_json(file: &ModelFile) -> String {
    let mut text = String::from("{\n");
    let added: Vec<Value> =
        file.added.iter().map(|(id, content, special)| added_token(*id, content, *special)).collect();
    let (is_byte_level, ignore_merges) = match &file.scheme {
        FileScheme::ByteLevel { ignore_merges, .. } => (true, *ignore_merges),
        FileScheme::Spm { .. } => (false, false),
    };
    let sections = [
        ("version", json!("1.0")),
        ("truncation", Value::Null),
        ("padding", Value::Null),
        ("added_tokens", json!(added)),
        ("normalizer", normalizer(&file.scheme)),
        ("pre_tokenizer", pre_tokenizer(&file.scheme)),
        ("post_processor", post_processor(file)),
        ("decoder", decoder(&file.scheme)),
    ];
    for (name, value) in sections {
        let _ = writeln!(text, "\"{name}\": {value},");
    }
    let _ = write!(
        text,
        "\"model\": {{\"type\": \"BPE\", \"dropout\": null, \"unk_token\": {}, \
         \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": {}, \
         \"byte_fallback\": {}, \"ignore_merges\": {ignore_merges}, \"vocab\": {{",
        json!(file.unk),
        !is_byte_level,
        !is_byte_level
    );
    let mut separator = "\n";
    for (id, token) in file.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
        let _ = write!(text, "{separator}{}:{id}", quoted(token));
        separator = ",\n";
    }
    text.push_str("}, \"merges\": [");
    separator = "\n";
    for (left, right) in &file.merges {
        let _ = write!(text, "{separator}[{},{}]", quoted(left), quoted(right));
        separator = ",\n";
    }
    text.push_str("]}\n}\n");
    text
}

fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

/// The `ByteLevel` part without a pattern of its own.
fn byte_level() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false })
}

fn space_mark() -> String {
    SPACE_MARK.to_string()
}

fn normalizer(scheme: &FileScheme) -> Value {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": space_mark() });
    match scheme {
        FileScheme::Spm { prefix: SpacePrefix::EachSegment, prefix_only_words: false, .. } => {
            let prepend = json!({ "type": "Prepend", "prepend": space_mark() });
            json!({ "type": "Sequence", "normalizers": [prepend, replace] })
        }
        FileScheme::Spm { prefix_only_words: false, .. } => replace,
        _ => Value::Null,
    }
}

fn pre_tokenizer(scheme: &FileScheme) -> Value {
    match scheme {
        FileScheme::ByteLevel { stages, .. } => {
            let mut parts: Vec<Value> = stages.iter().map(|stage| split_part(*stage)).collect();
            parts.push(byte_level());
            json!({ "type": "Sequence", "pretokenizers": parts })
        }
        FileScheme::Spm { prefix, prefix_only_words: true, splits_words } => {
            let scheme = match prefix {
                SpacePrefix::Never => "never",
                SpacePrefix::First => "first",
                SpacePrefix::EachSegment => "always",
            };
            json!({
                "type": "Metaspace", "replacement": space_mark(), "prepend_scheme": scheme, "split": splits_words,
            })
        }
        FileScheme::Spm { .. } => Value::Null,
    }
}

fn decoder(scheme: &FileScheme) -> Value {
    let FileScheme::Spm { prefix, .. } = scheme else { return byte_level() };
    let mut parts = vec![
        json!({ "type": "Replace", "pattern": { "String": space_mark() }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if *prefix != SpacePrefix::Never {
        parts.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": parts })
}

fn split_part(stage: Stage) -> Value {
    let pattern = match stage {
        Stage::Gpt2 => GPT2_PATTERN.to_owned(),
        Stage::Words(rule) => rule.pattern(),
        Stage::EachNumber => return json!({ "type": "Digits", "individual_digits": true }),
        Stage::Numbers => return json!({ "type": "Digits", "individual_digits": false }),
        Stage::DigitTriples => "[0-9][0-9][0-9]".to_owned(),
        Stage::Punctuation(false) => r"[\p{P}\$\+<=>\^~\|]+".to_owned(),
        Stage::Punctuation(true) => r"[\p{P}\$\+<=>\^~\|`]+".to_owned(),
        Stage::AtSpace => " ".to_owned(),
    };
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
}

fn post_processor(file: &ModelFile) -> Value {
    let name = |id: u32| file.added.iter().find(|(added, ..)| *added == id).map(|(_, text, _)| text.clone());
    let token = |id: Option<u32>| Some((id?, name(id?)?));
    let (bos, eos) = (token(file.bos), token(file.eos));
    let mut special = serde_json::Map::new();
    for (id, text) in [&bos, &eos].into_iter().flatten() {
        special.insert(text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] }));
    }
    if special.is_empty() {
        return match file.scheme {
            FileScheme::ByteLevel { .. } => byte_level(),
            FileScheme::Spm { .. } => Value::Null,
        };
    }
    let around = |sequence: &str, type_id: u32| -> Vec<Value> {
        let piece = |text: &String| json!({ "SpecialToken": { "id": text, "type_id": type_id } });
        let bos = bos.iter().map(|(_, text)| piece(text));
        let text = json!({ "Sequence": { "id": sequence, "type_id": type_id } });
        bos.chain([text]).chain(eos.iter().map(|(_, text)| piece(text))).collect()
    };
    let pair: Vec<Value> = around("A", 0).into_iter().chain(around("B", 1)).collect();
    json!({ "type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": special })
}
