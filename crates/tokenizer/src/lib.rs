//! Text to ids and back, tokenizer training, chat templates rendered to ids and loss mask.
//!
//! [`Tokenizer`] opens `tokenizer.json` or the vocabulary of a GGUF file: every token and merge is checked then, the
//! table of merges is built when a text is first encoded. [`GgufVocabulary`] encodes a short text without any table of the
//! whole. [`ChatTemplate`] turns a conversation into ids and mask by
//! one function for training, evaluation and chat.

mod added;
mod assemble;
mod bytes;
mod chat;
mod error;
mod gguf;
mod json;
mod merge;
mod model;
mod split;
mod tokenizer;
#[cfg(feature = "train")]
mod train;
mod unicode;
mod utf8;
mod vocab;
mod write;

pub use chat::{ChatTemplate, Message, ROLES, Rendered};
pub use error::{ErrorKind, TokenizerError};
pub use gguf::{GgufLookup, GgufValue, GgufVocabulary};
pub use tokenizer::{SpecialIds, Tokenizer};
#[cfg(feature = "train")]
pub use train::{CONTROL_TOKENS, SMALLEST_VOCAB, TrainOptions, TrainedFiles, train};
pub use utf8::Utf8Stream;
pub use vocab::TokenKind;

/// The chat template of our own models.
pub const DEFAULT_CHAT_TEMPLATE: &str = include_str!("chat_template.jinja");
