//! Streams the records of one file: text, JSON lines or a JSON list, plain, gzip or zstd.
//!
//! Memory is bounded by the longest accepted record (`max_record_bytes`), whatever the file's size or
//! whatever a header in it claims. What the file is gets decided from its name and its first bytes, its
//! layout from the first record, and every later record must have the same layout. Fields that a layout
//! does not use are ignored.

mod json;
mod layout;
mod lines;
mod open;
mod raw;
mod strings;
mod text;

#[cfg(test)]
mod tests;

use crate::error::{DataError, ErrorKind};
use crate::record::{Record, RecordKind};
use std::path::Path;
use std::sync::Arc;

pub(crate) use json::parse_value;
pub use layout::Layout;
pub use open::{Compression, kind_of};
pub(crate) use open::{endings, open};
pub use raw::{RawReader, RawRecord};
pub(crate) use strings::rewrite_strings;

/// How the documents of a `.txt` file are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextDocuments {
    /// Two or more blank lines end a document; a single blank line is a paragraph break inside it.
    #[default]
    TwoBlankLines,
    /// Every blank line ends a document.
    BlankLine,
    /// The file is one document.
    WholeFile,
}

/// How files are read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReaderSettings {
    /// Longest accepted record, in bytes.
    pub max_record_bytes: usize,
    /// How the documents of a `.txt` file are told apart.
    pub text_documents: TextDocuments,
    /// JSON fields that name the document a record comes from; every one present counts.
    pub document_fields: Vec<String>,
}

impl Default for ReaderSettings {
    fn default() -> Self {
        Self {
            max_record_bytes: 16 << 20,
            text_documents: TextDocuments::default(),
            document_fields: ["document", "source_document", "url"].map(String::from).to_vec(),
        }
    }
}

/// How the bytes are arranged in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Plain text.
    Text,
    /// One JSON object a line.
    JsonLines,
    /// A JSON list of objects, or objects one after another.
    Json,
}

impl Container {
    /// The endings of file names that mean it.
    pub fn endings(self) -> &'static str {
        match self {
            Self::Text => ".txt",
            Self::JsonLines => ".jsonl or .ndjson",
            Self::Json => ".json",
        }
    }
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFormat {
    /// Around everything.
    pub compression: Compression,
    /// Inside it.
    pub container: Container,
    /// Of its records.
    pub layout: Layout,
}

impl std::fmt::Display for FileFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let container = match self.container {
            Container::Text => "text",
            Container::JsonLines => "JSON lines",
            Container::Json => "JSON",
        };
        f.write_str(container)?;
        if self.container != Container::Text {
            write!(f, " of {}", self.layout)?;
        }
        match self.compression {
            Compression::None => Ok(()),
            packed => write!(f, ", {packed}"),
        }
    }
}

/// A record together with the text that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// The record.
    pub record: Record,
    /// The JSON object; `None` where the record is a document of a text file.
    pub(crate) json: Option<String>,
}

impl SourceRecord {
    /// What stands in the file: the JSON object, or the document. [`crate::RecordWriter`] writes it unchanged.
    pub fn source(&self) -> &str {
        match (&self.json, &self.record.kind) {
            (Some(json), _) => json,
            (None, RecordKind::Text(text)) => text,
            (None, _) => "",
        }
    }
}

/// Iterator over the records of one file. After an error it ends.
pub struct RecordReader {
    file: Arc<Path>,
    raw: RawReader,
    settings: ReaderSettings,
    format: FileFormat,
    first: Option<SourceRecord>,
    finished: bool,
}

impl RecordReader {
    /// Opens a file and reads its first record, so that [`RecordReader::format`] is known.
    ///
    /// # Errors
    /// Everything that can be wrong with the file up to its first record, an empty file included.
    pub fn open(path: &Path, settings: &ReaderSettings) -> Result<Self, DataError> {
        let raw = RawReader::open(path, settings)?;
        let (compression, container) = (raw.compression(), raw.container());
        let mut reader = Self {
            file: path.into(),
            raw,
            settings: settings.clone(),
            format: FileFormat { compression, container, layout: Layout::Text },
            first: None,
            finished: false,
        };
        let first = reader.read(None)?.ok_or_else(|| DataError::in_file(ErrorKind::Empty, path))?;
        reader.first = Some(first);
        Ok(reader)
    }

    /// What the file is.
    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// Bytes taken from the file so far, before decompression; buffers are ahead of the records.
    pub fn bytes_read(&self) -> u64 {
        self.raw.bytes_read()
    }

    /// The next record with the text it was read from.
    pub fn next_source(&mut self) -> Option<Result<SourceRecord, DataError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.finished {
            return None;
        }
        let item = self.read(Some(self.format.layout)).transpose();
        self.finished = !matches!(item, Some(Ok(_)));
        item
    }

    fn read(&mut self, layout: Option<Layout>) -> Result<Option<SourceRecord>, DataError> {
        let Some(RawRecord { line, text }) = self.raw.read()? else { return Ok(None) };
        let (kind, source_documents, json) = match self.format.container {
            Container::Text => (RecordKind::Text(text), Vec::new(), None),
            Container::JsonLines | Container::Json => {
                let (kind, documents) =
                    self.parse(&text, layout).map_err(|kind| DataError::at_line(kind, &self.file, line))?;
                (kind, documents, Some(text))
            }
        };
        let record = Record { kind, source_documents, file: self.file.clone(), line };
        Ok(Some(SourceRecord { record, json }))
    }

    /// Content and document ids of an object.
    fn parse(&mut self, text: &str, layout: Option<Layout>) -> Result<(RecordKind, Vec<String>), ErrorKind> {
        let object = json::parse_object(text)?;
        let layout = match layout {
            Some(layout) => layout,
            None => Layout::of(&object)?,
        };
        self.format.layout = layout;
        Ok((layout.read(&object)?, layout::document_ids(&object, &self.settings.document_fields)?))
    }
}

/// An error and the line it stands on.
type Located = (ErrorKind, u64);

impl Iterator for RecordReader {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_source().map(|item| item.map(|source| source.record))
    }
}
