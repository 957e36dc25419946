//! `Tokenizer`: plain text to ids, trusted text to ids, ids to bytes.

use crate::added::AddedTokens;
use crate::merge::NONE;
use crate::model::{Before, Model, SpacePrefix};
use crate::vocab::{TokenKind, Vocab};

/// Ids with a meaning for the model, as far as the files name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begin of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// Filler of unused positions.
    pub pad: Option<u32>,
    /// Unknown text.
    pub unk: Option<u32>,
    /// End of an answer in a chat.
    pub end_of_turn: Option<u32>,
}

impl SpecialIds {
    /// Ids that end a generation: end of text and end of turn.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = [self.eos, self.end_of_turn].into_iter().flatten().collect();
        ids.dedup();
        ids
    }
}

/// Texts that mark the end of a turn in the chat formats in use, best known first.
pub(crate) const END_OF_TURN: [&str; 6] =
    ["<|end|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<end_of_utterance>", "<|endofturn|>"];

/// A vocabulary ready to encode and decode. Immutable and shareable between threads.
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) vocab: Vocab,
    pub(crate) model: Model,
    pub(crate) added: AddedTokens,
    pub(crate) special: SpecialIds,
    pub(crate) adds_bos: bool,
    pub(crate) adds_eos: bool,
    pub(crate) chat_template: Option<String>,
    /// `tokenizer.ggml.pre` as read, where a GGUF file was.
    pub(crate) gguf_pre: Option<&'static str>,
}

impl Tokenizer {
    /// Appends the ids of plain text. Control tokens are never recognised in it: `<|end|>` becomes the bytes of
    /// these seven characters. No begin-of-text id is added.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        self.encode_plain(text, Before::TextStart, ids);
    }

    /// Appends the ids of trusted text (templates, never a user's words): control tokens in it are recognised.
    pub fn encode_with_special(&self, text: &str, ids: &mut Vec<u32>) {
        let mut at = 0;
        let mut before = Before::TextStart;
        while let Some(found) = self.added.find(text, at, true) {
            self.encode_plain(&text[at..found.start], before, ids);
            ids.push(found.id);
            at = found.end;
            before = Before::AddedToken;
        }
        self.encode_plain(&text[at..], before, ids);
    }

    pub(crate) fn encode_plain(&self, text: &str, mut before: Before, ids: &mut Vec<u32>) {
        let mut at = 0;
        while let Some(found) = self.added.find(text, at, false) {
            self.model.encode(&self.vocab, &text[at..found.start], before, ids);
            ids.push(found.id);
            at = found.end;
            before = Before::AddedToken;
        }
        self.model.encode(&self.vocab, &text[at..], before, ids);
    }

    /// Text of `ids`, control tokens included as their names. Bytes that are no UTF-8 become U+FFFD. The space
    /// that SentencePiece-style models put before a text is taken away again.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes = self.decode_bytes(ids);
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// Bytes of `ids`, as `decode` has them.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let mut bytes: Vec<u8> = ids.iter().flat_map(|&id| self.token_bytes(id)).copied().collect();
        let has_prefix = match &self.model {
            Model::Spm(spm) => spm.prefix != SpacePrefix::Never,
            Model::ByteLevel(_) => false,
        };
        let starts_with_text = ids.first().is_some_and(|&id| !self.is_special(id));
        if has_prefix && starts_with_text && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// Bytes of one token: part of a character perhaps, the name of a control token, empty for an id that does
    /// not exist.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocab.bytes(id)
    }

    /// Number of ids, holes included: every id is less.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// Can every text be encoded? Vocabularies of other tools may lack tokens for a few rare bytes.
    pub fn is_lossless(&self) -> bool {
        match &self.model {
            Model::ByteLevel(model) => {
                let has_token = |byte: u8| model.byte_ids[usize::from(byte)] != NONE;
                (0..=0xF4).filter(|byte| !matches!(byte, 0xC0 | 0xC1)).all(has_token)
            }
            // a space and U+2581 are one
            Model::Spm(_) => false,
        }
    }

    /// Is `id` a control token (or the unknown token), which plain text never becomes?
    pub fn is_special(&self, id: u32) -> bool {
        self.vocab.entry(id).is_some_and(|e| matches!(e.kind, TokenKind::Control | TokenKind::Unknown))
    }

    /// What `id` is for; `None` if it does not exist.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.vocab.entry(id).map(|entry| entry.kind)
    }

    /// Ids with a meaning for the model.
    pub fn special_ids(&self) -> &SpecialIds {
        &self.special
    }

    /// Ids that end a generation: end of text and end of turn.
    pub fn stop_ids(&self) -> Vec<u32> {
        self.special.stop_ids()
    }

    /// Id of the added token (control or user-defined) with this text.
    pub fn added_id(&self, text: &str) -> Option<u32> {
        let token = self.added.at(text.as_bytes(), true)?;
        (token.text == text).then_some(token.id)
    }

    /// Texts of all control tokens.
    pub fn control_texts(&self) -> impl Iterator<Item = (u32, &str)> {
        self.added.iter().filter(|token| token.is_control).map(|token| (token.id, token.text.as_str()))
    }

    /// Does a plain text begin with the begin-of-text id in this model's training?
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Does a plain text end with the end-of-text id in this model's training?
    pub fn adds_eos(&self) -> bool {
        self.adds_eos
    }

    /// The chat template that came with the vocabulary.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }
}
