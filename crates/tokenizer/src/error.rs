//! The error type of this crate: what went wrong, in which file and field, and why.

use std::error::Error;
use std::fmt;

/// What went wrong, for callers that react to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io,
    /// The text is not JSON, or a value has the wrong type.
    Malformed,
    /// A field that the format requires is absent.
    MissingField,
    /// A field is present but contradicts the rest of the file.
    BadField(String),
    /// The file asks for something that this crate does not compute; it is never approximated.
    Unsupported(String),
    /// The chat template does not compile, or failed while it ran.
    Template(String),
    /// A chat message is not acceptable (unknown role, text that cannot be kept apart from control tokens).
    Message(String),
    /// The loss mask of a rendered conversation is empty, full, or cannot be found.
    Mask(String),
    /// Training a vocabulary failed.
    Training(String),
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io => write!(f, "cannot be read or written"),
            Self::Malformed => write!(f, "malformed"),
            Self::MissingField => write!(f, "required field is missing"),
            Self::BadField(why)
            | Self::Template(why)
            | Self::Message(why)
            | Self::Mask(why)
            | Self::Training(why) => write!(f, "{why}"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
        }
    }
}

/// An error of this crate: kind, place (file and field), cause.
#[derive(Debug, thiserror::Error)]
pub struct TokenizerError {
    kind: ErrorKind,
    place: String,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl TokenizerError {
    pub(crate) fn new(kind: ErrorKind, place: impl Into<String>) -> Self {
        Self { kind, place: place.into(), cause: None }
    }

    pub(crate) fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same error with `file` put before its place.
    pub(crate) fn in_file(mut self, file: impl fmt::Display) -> Self {
        self.place = if self.place.is_empty() { file.to_string() } else { format!("{file}: {}", self.place) };
        self
    }

    pub(crate) fn bad(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadField(why.into()), place)
    }

    pub(crate) fn unsupported(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported(what.into()), place)
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// File and field, such as `tokenizer.json: model.merges[3]`.
    pub fn place(&self) -> &str {
        &self.place
    }
}
