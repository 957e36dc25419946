//! Records as they stand in a file: the text of a JSON object or of a document, before any layout is looked for.

use super::lines::Lines;
use super::open::{self, Compression};
use super::{Container, Located, ReaderSettings, TextDocuments, json, text};
use crate::error::{DataError, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One record as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// The line it begins on, 1-based, in the decompressed file.
    pub line: u64,
    /// A line of a `.jsonl` file, an object of a `.json` file (neither parsed), or a document of a `.txt` file.
    pub text: String,
}

/// Iterator over the raw records of one file. After an error it ends.
pub struct RawReader {
    file: Arc<Path>,
    lines: Lines,
    compression: Compression,
    container: Container,
    text_documents: TextDocuments,
    json: json::Objects,
    bytes_read: Arc<AtomicU64>,
    finished: bool,
}

impl RawReader {
    /// Opens a file; what it is follows from its name and is checked against its first bytes.
    ///
    /// # Errors
    /// An unknown ending, a file that cannot be opened, bytes that are not of the compression that the name says.
    pub fn open(path: &Path, settings: &ReaderSettings) -> Result<Self, DataError> {
        let at = |kind| DataError::in_file(kind, path);
        let (compression, container) = open::kind_of(path).map_err(at)?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let input = open::open(path, compression, bytes_read.clone()).map_err(at)?;
        Ok(Self {
            file: path.into(),
            lines: Lines::new(input, compression, settings.max_record_bytes),
            compression,
            container,
            text_documents: settings.text_documents,
            json: json::Objects::default(),
            bytes_read,
            finished: false,
        })
    }

    /// The same with the lines of a text file as its records.
    ///
    /// # Errors
    /// As [`RawReader::open`].
    pub(crate) fn open_lines(path: &Path, settings: &ReaderSettings) -> Result<Self, DataError> {
        Ok(Self { container: Container::JsonLines, ..Self::open(path, settings)? })
    }

    /// What is around the records.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// How they are arranged.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Bytes taken from the file so far, before decompression.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub(super) fn read(&mut self) -> Result<Option<RawRecord>, DataError> {
        let read = match self.container {
            Container::Text => text::read_document(&mut self.lines, self.text_documents),
            Container::JsonLines => self.read_line(),
            Container::Json => self.json.next(&mut self.lines),
        };
        match read {
            Ok(record) => Ok(record.map(|(line, text)| RawRecord { line, text })),
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
}

impl Iterator for RawReader {
    type Item = Result<RawRecord, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.read().transpose();
        self.finished = !matches!(item, Some(Ok(_)));
        item
    }
}
