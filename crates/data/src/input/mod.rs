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
mod text;

#[cfg(test)]
mod tests;

use crate::error::{DataError, ErrorKind};
use crate::record::{Record, RecordKind};
use lines::Lines;
use std::path::Path;
use std::sync::Arc;

pub use layout::Layout;
pub use open::Compression;

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

/// Iterator over the records of one file. After an error it ends.
pub struct RecordReader {
    file: Arc<Path>,
    lines: Lines,
    settings: ReaderSettings,
    format: FileFormat,
    json: json::Objects,
    first: Option<Record>,
    finished: bool,
}

impl RecordReader {
    /// Opens a file and reads its first record, so that [`RecordReader::format`] is known.
    ///
    /// # Errors
    /// Everything that can be wrong with the file up to its first record, an empty file included.
    pub fn open(path: &Path, settings: &ReaderSettings) -> Result<Self, DataError> {
        let file: Arc<Path> = path.into();
        let (compression, container) = open::kind_of(path).map_err(|kind| DataError::in_file(kind, path))?;
        let input = open::open(path, compression).map_err(|kind| DataError::in_file(kind, path))?;
        let mut reader = Self {
            file,
            lines: Lines::new(input, compression, settings.max_record_bytes),
            settings: settings.clone(),
            format: FileFormat { compression, container, layout: Layout::Text },
            json: json::Objects::default(),
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

    fn read(&mut self, layout: Option<Layout>) -> Result<Option<Record>, DataError> {
        let read = match self.format.container {
            Container::Text => text::read_document(&mut self.lines, self.settings.text_documents)
                .map(|document| document.map(|(line, text)| (line, RecordKind::Text(text), Vec::new()))),
            Container::JsonLines => self.read_line().and_then(|line| self.parse(line, layout)),
            Container::Json => self.json.next(&mut self.lines).and_then(|object| self.parse(object, layout)),
        };
        match read {
            Ok(None) => Ok(None),
            Ok(Some((line, kind, source_documents))) => {
                Ok(Some(Record { kind, source_documents, file: self.file.clone(), line }))
            }
            Err((kind @ ErrorKind::Io(_), _)) => Err(DataError::in_file(kind, &self.file)),
            Err((kind, line)) => Err(DataError::at_line(kind, &self.file, line)),
        }
    }

    /// The next line that is not blank.
    fn read_line(&mut self) -> Result<Option<(u64, String)>, Located> {
        while let Some(line) = self.lines.next_line()? {
            if !line.trim().is_empty() {
                let text = line.to_owned();
                return Ok(Some((self.lines.line(), text)));
            }
        }
        Ok(None)
    }

    fn parse(
        &mut self,
        object: Option<(u64, String)>,
        layout: Option<Layout>,
    ) -> Result<Option<Parsed>, Located> {
        let Some((line, text)) = object else { return Ok(None) };
        let at = |kind| (kind, line);
        let object = json::parse_object(&text).map_err(at)?;
        let layout = match layout {
            Some(layout) => layout,
            None => Layout::of(&object).map_err(at)?,
        };
        self.format.layout = layout;
        let kind = layout.read(&object).map_err(at)?;
        let documents = layout::document_ids(&object, &self.settings.document_fields).map_err(at)?;
        Ok(Some((line, kind, documents)))
    }
}

/// An error and the line it stands on.
type Located = (ErrorKind, u64);
/// Line, content, document ids.
type Parsed = (u64, RecordKind, Vec<String>);

impl Iterator for RecordReader {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
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
}
