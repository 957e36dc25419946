//! Reading `tokenizer.json` and the files beside it (Hugging Face).
//!
//! Every part that would change ids is implemented or refused with its name and value. What is read: models
//! `BPE` (byte-level, or character-level with byte fallback), the pre-tokenizers of `split.rs`, the normalizers
//! and `Metaspace` of SentencePiece conversions, added tokens, and begin/end of text from the post-processor.

mod parts;
mod schema;

use std::path::Path;

use crate::added::{AddedToken, AddedTokens};
use crate::assemble::{Listed, Spelling, byte_token, merges, vocabulary};
use crate::error::{ErrorKind, TokenizerError};
use crate::model::{ByteLevel, Model, Spm, SpmRule};
use crate::tokenizer::{END_OF_TURN, SpecialIds, Tokenizer};
use crate::vocab::{TokenKind, Vocab};
use parts::{Scheme, scheme, template_ends};
use schema::{File, Settings};

/// Ids may have holes, but not more of them than this: a file that claims a huge id is refused.
const MOST_HOLES: usize = 1 << 20;

impl Tokenizer {
    /// Opens `tokenizer.json`, or a folder that holds it; `tokenizer_config.json`, `special_tokens_map.json` and
    /// `chat_template.jinja` beside it are read if they exist.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
        let text = read(&file)?;
        let mut settings = Settings::default();
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let beside = file.with_file_name(name);
            if beside.is_file() {
                let read = Settings::parse(&read(&beside)?).map_err(|e| e.in_file(beside.display()))?;
                settings.overlay(read);
            }
        }
        let template = file.with_file_name("chat_template.jinja");
        if template.is_file() {
            settings.chat_template = Some(read(&template)?);
        }
        let file_name = file.display();
        Self::build(&text, &settings).map_err(|error| error.in_file(file_name))
    }

    /// Reads the text of a `tokenizer.json`.
    pub fn from_tokenizer_json(text: &str) -> Result<Self, TokenizerError> {
        Self::build(text, &Settings::default()).map_err(|error| error.in_file("tokenizer.json"))
    }

    /// Reads the texts of `tokenizer.json` and `tokenizer_config.json`.
    pub fn from_json(tokenizer: &str, config: &str) -> Result<Self, TokenizerError> {
        let settings = Settings::parse(config).map_err(|error| error.in_file("tokenizer_config.json"))?;
        Self::build(tokenizer, &settings).map_err(|error| error.in_file("tokenizer.json"))
    }

    fn build(text: &str, settings: &Settings) -> Result<Self, TokenizerError> {
        let file = File::parse(text)?;
        let scheme = scheme(&file)?;
        let spelling = match scheme {
            Scheme::ByteLevel { .. } => Spelling::ByteLevel,
            Scheme::Spm { .. } => Spelling::Spm,
        };
        let tokens = list_tokens(&file, spelling)?;
        let vocab = vocabulary(spelling, tokens.iter().copied(), "token")?;
        let added = added_tokens(&file)?;
        let is_control = |text: &str| added.at(text.as_bytes(), true).is_some_and(|t| t.text == text);
        let Some(listed) = &file.model.merges else {
            return Err(TokenizerError::new(ErrorKind::MissingField, "model.merges"));
        };
        let listed = (listed.len(), listed.pairs());
        let merges = merges(spelling, &vocab, listed, is_control, "model.merges")?;
        let model = match scheme {
            Scheme::ByteLevel { stages } => {
                let ignore_merges = file.model.ignore_merges.unwrap_or(false);
                Model::ByteLevel(ByteLevel::new(stages, ignore_merges, merges, &vocab, "model.vocab")?)
            }
            Scheme::Spm { prefix, prefix_only_words, splits_words } => Model::Spm(Spm {
                byte_ids: spm_byte_ids(&vocab, "model.vocab")?,
                rule: SpmRule::Merges(merges),
                prefix,
                prefix_only_words,
                splits_words,
            }),
        };
        let ends = template_ends(&file)?;
        let id = |name: &Option<String>| name.as_deref().and_then(|name| find_added(&added, name));
        let special = SpecialIds {
            bos: id(&settings.bos_token).or(ends.bos),
            eos: id(&settings.eos_token).or(ends.eos),
            pad: id(&settings.pad_token),
            unk: id(&settings.unk_token).or(file
                .model
                .unk_token
                .as_deref()
                .and_then(|n| find_added(&added, n))),
            end_of_turn: END_OF_TURN.iter().find_map(|name| find_added(&added, name)),
        };
        Ok(Self {
            adds_bos: settings.add_bos_token.unwrap_or(ends.bos.is_some()) && special.bos.is_some(),
            adds_eos: settings.add_eos_token.unwrap_or(ends.eos.is_some()) && special.eos.is_some(),
            chat_template: settings.chat_template.clone(),
            gguf_pre: None,
            vocab,
            model,
            added,
            special,
        })
    }
}

fn read(path: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(path)
        .map_err(|error| TokenizerError::new(ErrorKind::Io, path.display().to_string()).because(error))
}

fn find_added(added: &AddedTokens, text: &str) -> Option<u32> {
    added.at(text.as_bytes(), true).filter(|token| token.text == text).map(|token| token.id)
}

/// The tokens of the model and the added ones, by id.
fn list_tokens<'f>(file: &'f File<'f>, spelling: Spelling) -> Result<Vec<Listed<'f>>, TokenizerError> {
    let vocab = &file.model.vocab;
    let ids = vocab.ids.iter().copied().chain(file.added_tokens.iter().map(|token| token.id));
    let count = vocab.ids.len() + file.added_tokens.len();
    let size = ids.max().map_or(0, |id| id as usize + 1);
    if size > count + MOST_HOLES {
        let why = format!("id {} is out of range for {count} tokens", size - 1);
        return Err(TokenizerError::bad("model.vocab", why));
    }
    let hole = Listed { text: "", kind: TokenKind::Unused, is_in_model: false };
    let mut tokens = vec![hole; size];
    let has_byte_tokens = spelling == Spelling::Spm && file.model.byte_fallback.unwrap_or(false);
    for (text, id) in vocab.iter() {
        let slot = &mut tokens[id as usize];
        if slot.is_in_model {
            let why = format!("{:?} and {text:?} both have id {id}", slot.text);
            return Err(TokenizerError::bad("model.vocab", why));
        }
        let is_unknown = file.model.unk_token.as_deref() == Some(text);
        let kind = match () {
            () if is_unknown => TokenKind::Unknown,
            () if has_byte_tokens && byte_token(text).is_some() => TokenKind::Byte,
            () => TokenKind::Normal,
        };
        *slot = Listed { text, kind, is_in_model: true };
    }
    for (index, token) in file.added_tokens.iter().enumerate() {
        let slot = &mut tokens[token.id as usize];
        let is_taken = slot.is_in_model || slot.kind != TokenKind::Unused;
        if is_taken && slot.text != token.content {
            let why = format!("{:?} has id {}, which is {:?}", token.content, token.id, slot.text);
            return Err(TokenizerError::bad(format!("added_tokens[{index}]"), why));
        }
        slot.text = &token.content;
        slot.kind = match token.special {
            _ if slot.kind == TokenKind::Unknown => TokenKind::Unknown,
            true => TokenKind::Control,
            false => TokenKind::UserDefined,
        };
    }
    Ok(tokens)
}

fn added_tokens(file: &File<'_>) -> Result<AddedTokens, TokenizerError> {
    let mut tokens = Vec::with_capacity(file.added_tokens.len());
    for (index, token) in file.added_tokens.iter().enumerate() {
        if token.single_word {
            let place = format!("added_tokens[{index}].single_word");
            return Err(TokenizerError::unsupported(place, "true"));
        }
        let is_unknown = file.model.unk_token.as_deref() == Some(token.content.as_ref());
        tokens.push(AddedToken {
            id: token.id,
            text: token.content.clone().into_owned(),
            is_control: token.special || is_unknown,
            strips_left: token.lstrip,
            strips_right: token.rstrip,
        });
    }
    Ok(AddedTokens::new(tokens))
}

/// Ids of the byte tokens of a SentencePiece-style vocabulary: all 256 are required.
pub(crate) fn spm_byte_ids(vocab: &Vocab, field: &str) -> Result<[u32; 256], TokenizerError> {
    let mut ids = [u32::MAX; 256];
    for id in 0..vocab.len() as u32 {
        if vocab.entry(id).is_some_and(|entry| entry.kind == TokenKind::Byte)
            && let [byte] = *vocab.bytes(id)
        {
            ids[byte as usize] = id;
        }
    }
    match ids.iter().position(|&id| id == u32::MAX) {
        Some(byte) => Err(TokenizerError::bad(field, format!("byte token <0x{byte:02X}> is missing"))),
        None => Ok(ids),
    }
}

#[cfg(test)]
mod tests;
