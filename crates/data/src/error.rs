//! The error of this crate: what went wrong, in which file, on which line, in which field.

use std::fmt;
use std::path::{Path, PathBuf};

/// An error with its place. Messages hold names of files and fields and counts, never text of a record.
#[derive(Debug)]
pub struct DataError {
    kind: Box<ErrorKind>,
    file: Option<PathBuf>,
    line: Option<u64>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    #[error("{0}")]
    Io(std::io::Error),
    /// The file name says nothing that this crate reads.
    #[error(
        "unknown kind of file: expected a name that ends in .txt, .jsonl, .ndjson or .json, each also with .gz or .zst"
    )]
    UnknownFormat,
    /// Records are copied into a file of their own kind only.
    #[error(
        "expected a name that ends in {expected} (also with .gz or .zst), as the input does, found {found}"
    )]
    OutputName {
        /// Endings of the records' container.
        expected: &'static str,
        /// Endings of the container that the name asks for.
        found: &'static str,
    },
    /// The file name says nothing that is read as a test set.
    #[error(
        "unknown kind of test set: expected a name that ends in .jsonl, .ndjson, .json, .csv, .tsv or .txt, each also with .gz or .zst"
    )]
    UnknownTestSet,
    /// A table does not have the form of one.
    #[error("invalid table: {0}")]
    Table(String),
    /// The name promises a compression that the bytes do not have.
    #[error("expected {expected} data because of the file's name, found other bytes")]
    Compression {
        /// `gzip` or `zstd`.
        expected: &'static str,
    },
    /// A compressed file stops before its end mark.
    #[error("truncated {0} data: the file ends before the archive does")]
    Truncated(&'static str),
    /// A compressed file does not decompress.
    #[error("corrupt {format} data: {problem}")]
    Corrupt {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What the decompressor said.
        problem: String,
    },
    /// The file begins with a UTF-16 mark.
    #[error("expected UTF-8 text, found a UTF-16 byte order mark")]
    Utf16,
    /// A line is not UTF-8.
    #[error("invalid UTF-8 at byte {byte} of the line")]
    InvalidUtf8 {
        /// 0-based position in the line.
        byte: usize,
    },
    /// One record is longer than the reader accepts.
    #[error("record longer than the limit of {limit} bytes{}", hint_line(.hint))]
    RecordTooLong {
        /// The limit in bytes.
        limit: usize,
        /// What to do about it, may be empty.
        hint: &'static str,
    },
    /// The text is not JSON.
    #[error("invalid JSON at column {column}: {problem}")]
    Json {
        /// 1-based column in the record.
        column: usize,
        /// What the JSON parser said.
        problem: String,
    },
    /// A JSON file stops inside a record or its list.
    #[error("the file ends inside {0}")]
    EndsInside(&'static str),
    /// A field is absent or of another type.
    #[error("field `{field}`: expected {expected}, found {found}")]
    Field {
        /// Path of the field, for example `messages[2].role`.
        field: String,
        /// What the layout asks for.
        expected: String,
        /// What stands there, without its content.
        found: String,
    },
    /// No known layout fits the record's fields.
    #[error(
        "no known layout: expected `text`, `messages`, `prompt` and `completion`, `question` and `answer`, `instruction` and `output`, `conversations`, or `chosen` and `rejected`, found {found}"
    )]
    UnknownLayout {
        /// The names of the fields.
        found: String,
    },
    /// The file holds no record.
    #[error("the file holds no records")]
    Empty,
    /// The file is not what it was when the corpus was scanned.
    #[error("the file changed after it was scanned")]
    Changed,
    /// A setting is out of range.
    #[error("{name}: expected {expected}, found {found}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// A record of the wrong kind for the task.
    #[error("expected {expected}, found {found}")]
    RecordKind {
        /// What the task needs.
        expected: &'static str,
        /// What the record is.
        found: &'static str,
    },
    /// Too much of a file is no pair or answer to learn from.
    #[error(
        "{faulty} of {read} records cannot be learned from, more than 5%: {reasons}; the first on {lines}"
    )]
    LeftOut {
        /// Records at fault.
        faulty: usize,
        /// Records read.
        read: usize,
        /// How many of them for which reason.
        reasons: String,
        /// The first lines at fault.
        lines: String,
    },
    /// Whoever watched the work ended it.
    #[error("stopped on request")]
    Stopped,
    /// The tokenizer refused a record.
    #[error("tokenizer: {0}")]
    Encode(Box<dyn std::error::Error + Send + Sync>),
    /// A token source without anything to learn from.
    #[error("source `{0}` holds no target tokens")]
    NoTargets(String),
    /// A position that belongs to other data or settings.
    #[error("the saved position belongs to other data or settings: expected {expected}, found {found}")]
    Position {
        /// Ours.
        expected: String,
        /// The position's.
        found: String,
    },
}

fn hint_line(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("\nhint: {hint}") }
}

impl DataError {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The file in question.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// 1-based line in the decompressed file.
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    pub(crate) fn in_file(kind: ErrorKind, file: &Path) -> Self {
        Self { kind: Box::new(kind), file: Some(file.to_owned()), line: None }
    }

    pub(crate) fn at_line(kind: ErrorKind, file: &Path, line: u64) -> Self {
        Self { kind: Box::new(kind), file: Some(file.to_owned()), line: Some(line) }
    }
}

impl From<ErrorKind> for DataError {
    fn from(kind: ErrorKind) -> Self {
        Self { kind: Box::new(kind), file: None, line: None }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        self.kind.fmt(f)
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            ErrorKind::Io(error) => Some(error),
            ErrorKind::Encode(error) => Some(&**error),
            _ => None,
        }
    }
}
