//! One record of a file: a text or a conversation, with where it came from.

use crate::hash::TextHasher;
use std::path::Path;
use std::sync::Arc;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions that frame the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in the `messages` layout.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A document.
    Text(String),
    /// A conversation.
    Chat(Vec<Message>),
}

/// One record of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The content.
    pub kind: RecordKind,
    /// The documents the record says it comes from (values of the document fields), possibly none.
    pub source_documents: Vec<String>,
    /// The file it was read from.
    pub file: Arc<Path>,
    /// The line it begins on, 1-based, in the decompressed file.
    pub line: u64,
}

impl Record {
    /// The texts of the record: the document, or the content of each message.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (text, messages) = match &self.kind {
            RecordKind::Text(text) => (Some(text.as_str()), &[][..]),
            RecordKind::Chat(messages) => (None, messages.as_slice()),
        };
        text.into_iter().chain(messages.iter().map(|message| message.content.as_str()))
    }

    /// Whether there is nothing but white space in it.
    pub fn is_blank(&self) -> bool {
        self.texts().all(|text| text.trim().is_empty())
    }

    /// Length in characters, roles not counted.
    pub fn num_characters(&self) -> usize {
        self.texts().map(|text| text.chars().count()).sum()
    }

    /// Hash of the content with white space normalised; two records with the same hash are duplicates.
    pub(crate) fn content_hash(&self) -> u128 {
        let mut hasher = TextHasher::new();
        match &self.kind {
            RecordKind::Text(text) => hasher.part(text),
            RecordKind::Chat(messages) => {
                for message in messages {
                    hasher.part(message.role.name());
                    hasher.part(&message.content);
                }
            }
        }
        hasher.finish()
    }
}
