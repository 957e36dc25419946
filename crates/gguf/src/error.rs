//! The error of this crate: a kind to match, the place in the file, what was expected and what was found.

use std::fmt;
use std::path::{Path, PathBuf};

/// What went wrong, for callers that react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GgufErrorKind {
    /// The operating system refused to open, map, read or write.
    Io,
    /// The file does not begin with the GGUF magic.
    NotGguf,
    /// A version that is not read here (1, or one newer than this crate).
    UnsupportedVersion,
    /// The file was written on a big-endian machine.
    BigEndian,
    /// The file ends inside a field, or a length points behind its end.
    Truncated,
    /// A key or a tensor name stands in the file twice.
    Duplicate,
    /// A value type or tensor type that does not exist.
    UnknownType,
    /// A value or a tensor has another type than the caller needs.
    WrongType,
    /// A field holds a value the format forbids.
    InvalidValue,
    /// A limit of this reader is exceeded.
    LimitExceeded,
    /// A size computed from the file does not fit into 64 bits.
    Overflow,
    /// Two tensors share bytes.
    Overlap,
    /// A key or tensor the caller needs is absent.
    Missing,
    /// The output exists and overwriting was not asked for.
    AlreadyExists,
    /// The writer was given tensors that differ from those it was told of.
    WrongTensorData,
}

impl GgufErrorKind {
    fn describe(self) -> &'static str {
        match self {
            Self::Io => "input/output error",
            Self::NotGguf => "not a GGUF file",
            Self::UnsupportedVersion => "unsupported GGUF version",
            Self::BigEndian => "big-endian GGUF file",
            Self::Truncated => "truncated GGUF file",
            Self::Duplicate => "duplicate name",
            Self::UnknownType => "unknown type",
            Self::WrongType => "wrong type",
            Self::InvalidValue => "invalid value",
            Self::LimitExceeded => "limit exceeded",
            Self::Overflow => "size overflows",
            Self::Overlap => "tensors overlap",
            Self::Missing => "missing",
            Self::AlreadyExists => "output exists",
            Self::WrongTensorData => "wrong tensor data",
        }
    }
}

/// The part of a file an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The file as a whole, or its fixed header.
    Header,
    /// The metadata entry with this index, before its key is known.
    Entry(u64),
    /// The metadata key.
    Key(String),
    /// The tensor description with this index, before its name is known.
    TensorIndex(u64),
    /// The tensor.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "header"),
            Self::Entry(index) => write!(f, "metadata entry {index}"),
            Self::Key(key) => write!(f, "key `{}`", key.escape_debug()),
            Self::TensorIndex(index) => write!(f, "tensor description {index}"),
            Self::Tensor(name) => write!(f, "tensor `{}`", name.escape_debug()),
        }
    }
}

/// An error of reading or writing a GGUF file.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct GgufError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: GgufErrorKind,
    file: Option<PathBuf>,
    place: Place,
    offset: Option<u64>,
    expected: String,
    found: String,
    source: Option<std::io::Error>,
}

impl std::error::Error for Inner {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        write!(f, "{}: {}", self.kind.describe(), self.place)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        if !self.expected.is_empty() {
            write!(f, ": expected {}", self.expected)?;
        }
        if !self.found.is_empty() {
            write!(f, "{} found {}", if self.expected.is_empty() { ":" } else { "," }, self.found)?;
        }
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl GgufError {
    /// An error of `kind` at `place`, with what was expected and what was found there.
    pub fn new(
        kind: GgufErrorKind,
        place: Place,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self(Box::new(Inner { kind, file: None, place, offset: None, expected, found, source: None }))
    }

    pub(crate) fn io(source: std::io::Error, doing: &str) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::AlreadyExists => GgufErrorKind::AlreadyExists,
            _ => GgufErrorKind::Io,
        };
        let mut error = Self::new(kind, Place::Header, doing, "");
        error.0.source = Some(source);
        error
    }

    pub(crate) fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// The same error at a more exact place, known only to the caller.
    pub(crate) fn within(mut self, place: Place) -> Self {
        self.0.place = place;
        self
    }

    /// The same error with the file it happened in.
    pub fn in_file(mut self, file: &Path) -> Self {
        self.0.file.get_or_insert_with(|| file.to_path_buf());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> GgufErrorKind {
        self.0.kind
    }

    /// The file, when there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The key or tensor the error is about.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// The byte of the file at which the wrong field begins, when known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What was expected, in words.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What was found, in words.
    pub fn found(&self) -> &str {
        &self.0.found
    }
}
