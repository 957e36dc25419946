//! The sections of `tokenizer.json` that say how text is prepared: each is understood or refused by name.

use serde_json::Value;

use super::schema::File;
use crate::error::TokenizerError;
use crate::model::{SPACE_MARK, SpacePrefix};
use crate::split::Stage;

/// The kind of model that the sections of a file describe together.
#[derive(Debug)]
pub(super) enum Scheme {
    ByteLevel { stages: Vec<Stage> },
    Spm { prefix: SpacePrefix, prefix_only_words: bool, splits_words: bool },
}

fn type_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("")
}

fn flag(value: &Value, field: &str, default: bool) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or(default)
}

/// `value.field`, or `value.field.inner`, as text.
fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    path.iter().try_fold(value, |value, field| value.get(field))?.as_str()
}

fn refuse(field: &str, value: &Value) -> TokenizerError {
    let mut text = value.to_string();
    if text.len() > 300 {
        text.truncate(text.floor_char_boundary(300));
        text.push('…');
    }
    TokenizerError::unsupported(field, text)
}

/// Elements of a `Sequence`, or the value itself.
fn sequence<'v>(value: &'v Value, list: &str) -> Vec<&'v Value> {
    match (type_of(value), value.get(list).and_then(Value::as_array)) {
        ("Sequence", Some(elements)) => elements.iter().collect(),
        _ if value.is_null() => Vec::new(),
        _ => vec![value],
    }
}

/// Reads model options, normalizer and pre-tokenizer together.
pub(super) fn scheme(file: &File<'_>) -> Result<Scheme, TokenizerError> {
    check_model(file)?;
    let pre = sequence(&file.pre_tokenizer, "pretokenizers");
    if pre.iter().any(|element| type_of(element) == "ByteLevel") {
        if !file.normalizer.is_null() {
            return Err(refuse("normalizer", &file.normalizer));
        }
        return Ok(Scheme::ByteLevel { stages: byte_level_stages(&pre)? });
    }
    if !file.model.byte_fallback.unwrap_or(false) {
        let why = format!("{} without ByteLevel or model.byte_fallback", file.pre_tokenizer);
        return Err(TokenizerError::unsupported("pre_tokenizer", why));
    }
    spm_scheme(file, &pre)
}

fn check_model(file: &File<'_>) -> Result<(), TokenizerError> {
    let model = &file.model;
    if let Some(kind) = model.kind.as_deref().filter(|kind| *kind != "BPE") {
        return Err(TokenizerError::unsupported("model.type", kind));
    }
    for (field, value) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(text) = value.as_deref().filter(|text| !text.is_empty()) {
            return Err(TokenizerError::unsupported(field, format!("{text:?}")));
        }
    }
    match model.dropout {
        Some(dropout) if dropout != 0.0 => {
            Err(TokenizerError::unsupported("model.dropout", dropout.to_string()))
        }
        _ => Ok(()),
    }
}

fn byte_level_stages(pre: &[&Value]) -> Result<Vec<Stage>, TokenizerError> {
    let mut stages = Vec::new();
    for (index, element) in pre.iter().enumerate() {
        let stage = match type_of(element) {
            "ByteLevel" if flag(element, "add_prefix_space", true) => None,
            "ByteLevel" if flag(element, "use_regex", true) => Some(Stage::Gpt2),
            "ByteLevel" => continue,
            "Digits" if flag(element, "individual_digits", false) => Some(Stage::EachNumber),
            "Digits" => Some(Stage::Numbers),
            "Split" => split_stage(element),
            _ => None,
        };
        stages.push(stage.ok_or_else(|| refuse(&format!("pre_tokenizer[{index}]"), element))?);
    }
    Ok(stages)
}

/// A `Split` by a known pattern whose matches and gaps both stay.
fn split_stage(element: &Value) -> Option<Stage> {
    let pattern = text(element, &["pattern", "Regex"])?;
    let keeps_all = match (text(element, &["behavior"])?, flag(element, "invert", false)) {
        ("Isolated", _) => true,
        // what lies between the matches goes, but these patterns match everything
        ("Removed", true) => pattern.ends_with(r"|\s+"),
        _ => false,
    };
    let stage = if pattern == r"\p{N}" { Some(Stage::EachNumber) } else { Stage::from_pattern(pattern) };
    stage.filter(|_| keeps_all)
}

fn spm_scheme(file: &File<'_>, pre: &[&Value]) -> Result<Scheme, TokenizerError> {
    let mark = SPACE_MARK.to_string();
    let mut prefix = SpacePrefix::Never;
    let (mut prefix_only_words, mut splits_words, mut marks_spaces) = (false, false, false);
    for (index, element) in sequence(&file.normalizer, "normalizers").into_iter().enumerate() {
        match type_of(element) {
            "Prepend" if text(element, &["prepend"]) == Some(&mark) => prefix = SpacePrefix::EachSegment,
            "Replace"
                if text(element, &["pattern", "String"]) == Some(" ")
                    && text(element, &["content"]) == Some(&mark) =>
            {
                marks_spaces = true;
            }
            _ => return Err(refuse(&format!("normalizer[{index}]"), element)),
        }
    }
    for (index, element) in pre.iter().enumerate() {
        match type_of(element) {
            "Metaspace" if text(element, &["replacement"]) == Some(&mark) => {
                prefix = metaspace_prefix(element)
                    .ok_or_else(|| refuse(&format!("pre_tokenizer[{index}]"), element))?;
                prefix_only_words = true;
                splits_words = flag(element, "split", true);
                marks_spaces = true;
            }
            // after the normalizer no space is left to split at
            "Split" if text(element, &["pattern", "String"]) == Some(" ") && marks_spaces => {}
            _ => return Err(refuse(&format!("pre_tokenizer[{index}]"), element)),
        }
    }
    if !marks_spaces {
        return Err(TokenizerError::unsupported("normalizer", "spaces are not replaced by U+2581"));
    }
    Ok(Scheme::Spm { prefix, prefix_only_words, splits_words })
}

fn metaspace_prefix(element: &Value) -> Option<SpacePrefix> {
    match (text(element, &["prepend_scheme"]), flag(element, "add_prefix_space", true)) {
        (Some("never"), _) | (None, false) => Some(SpacePrefix::Never),
        (Some("first"), _) => Some(SpacePrefix::First),
        (Some("always"), _) | (None, true) => Some(SpacePrefix::EachSegment),
        _ => None,
    }
}

/// Ids that the post-processor puts around a text.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
}

/// Reads `post_processor`: begin and end of text around a single text.
pub(super) fn template_ends(file: &File<'_>) -> Result<Ends, TokenizerError> {
    let mut ends = Ends::default();
    for (index, element) in sequence(&file.post_processor, "processors").into_iter().enumerate() {
        match type_of(element) {
            "ByteLevel" => {}
            "TemplateProcessing" => {
                ends = single_template(file, element)
                    .ok_or_else(|| refuse(&format!("post_processor[{index}]"), element))?;
            }
            _ => return Err(refuse(&format!("post_processor[{index}]"), element)),
        }
    }
    Ok(ends)
}

fn single_template(file: &File<'_>, element: &Value) -> Option<Ends> {
    let mut ends = Ends::default();
    let mut text_seen = false;
    for piece in element.get("single")?.as_array()? {
        if piece.get("Sequence").is_some() {
            if std::mem::replace(&mut text_seen, true) {
                return None;
            }
            continue;
        }
        let name = text(piece, &["SpecialToken", "id"])?;
        let id = file.added_tokens.iter().find(|token| token.content == name)?.id;
        let end = if text_seen { &mut ends.eos } else { &mut ends.bos };
        if end.replace(id).is_some() {
            return None;
        }
    }
    text_seen.then_some(ends)
}
