//! One record of a file: a text, a conversation, a pair of answers or a rated one, with where it came from.

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
    /// Two continuations of one conversation, one of them preferred.
    Preference {
        /// What both answer to.
        prompt: Vec<Message>,
        /// The preferred continuation.
        chosen: Vec<Message>,
        /// The other one.
        rejected: Vec<Message>,
    },
    /// A conversation whose last answer was judged.
    Rated {
        /// The whole conversation.
        messages: Vec<Message>,
        /// The judgement.
        good: bool,
    },
}

impl RecordKind {
    /// What it is, in words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a plain text",
            Self::Chat(_) => "a conversation",
            Self::Preference { .. } => "a preference pair",
            Self::Rated { .. } => "a rated conversation",
        }
    }

    /// The messages of a conversation, or of a pair: its prompt, the chosen side, the rejected side.
    fn messages(&self) -> [&[Message]; 3] {
        match self {
            Self::Text(_) => [&[]; 3],
            Self::Chat(messages) | Self::Rated { messages, .. } => [messages, &[], &[]],
            Self::Preference { prompt, chosen, rejected } => [prompt, chosen, rejected],
        }
    }
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
    /// The messages of a conversation, or of a pair: its prompt, the chosen side, the rejected side. None of a text.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.kind.messages().into_iter().flatten()
    }

    /// The texts of the record: the document, or the content of each message.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let text = if let RecordKind::Text(text) = &self.kind { Some(text.as_str()) } else { None };
        text.into_iter().chain(self.messages().map(|message| message.content.as_str()))
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
                messages.iter().for_each(|message| hash_message(message, &mut hasher))
            }
            RecordKind::Rated { messages, good } => {
                hasher.part(if *good { "good" } else { "bad" });
                messages.iter().for_each(|message| hash_message(message, &mut hasher));
            }
            RecordKind::Preference { .. } => {
                for (name, messages) in ["prompt", "chosen", "rejected"].into_iter().zip(self.kind.messages())
                {
                    hasher.part(name);
                    messages.iter().for_each(|message| hash_message(message, &mut hasher));
                }
            }
        }
        hasher.finish()
    }

    /// The document that a pair or a rated conversation comes from by itself: what the user said first. Rows of one
    /// prompt have it in common, and so do rows about later turns of one conversation.
    pub(crate) fn opening_hash(&self) -> Option<u128> {
        if !matches!(self.kind, RecordKind::Preference { .. } | RecordKind::Rated { .. }) {
            return None;
        }
        let opening = self.kind.messages()[0].iter().find(|message| message.role == Role::User)?;
        let mut hasher = TextHasher::new();
        hasher.part("opening");
        hash_message(opening, &mut hasher);
        Some(hasher.finish())
    }
}

fn hash_message(message: &Message, hasher: &mut TextHasher) {
    hasher.part(message.role.name());
    hasher.part(&message.content);
}
