//! Writes records back as they stood in their file: same container, any compression.

use crate::error::{DataError, ErrorKind};
use crate::input::{Compression, Container, kind_of};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Level of zstd; that of its command line tool.
const ZSTD_LEVEL: i32 = 3;

enum Sink<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Sink<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.write_all(bytes),
            Self::Gzip(writer) => writer.write_all(bytes),
            Self::Zstd(writer) => writer.write_all(bytes),
        }
    }
}

/// Writes the records of one file. What the file is follows from its name.
pub struct RecordWriter<W: Write> {
    path: PathBuf,
    sink: Sink<W>,
    container: Container,
    empty: bool,
}

impl<W: Write> RecordWriter<W> {
    /// A writer of the file `path` whose bytes go to `inner`.
    ///
    /// # Errors
    /// An ending that this crate does not know, or that is of another container than `container`.
    pub fn new(path: &Path, inner: W, container: Container) -> Result<Self, DataError> {
        let at = |kind| DataError::in_file(kind, path);
        let compression = check_name(path, container)?;
        let sink = match compression {
            Compression::None => Sink::Plain(inner),
            Compression::Gzip => {
                Sink::Gzip(flate2::write::GzEncoder::new(inner, flate2::Compression::default()))
            }
            Compression::Zstd => {
                Sink::Zstd(zstd::Encoder::new(inner, ZSTD_LEVEL).map_err(|error| at(ErrorKind::Io(error)))?)
            }
        };
        Ok(Self { path: path.into(), sink, container, empty: true })
    }

    /// Writes one record: a JSON object or a document, as [`crate::SourceRecord::source`] gives it.
    ///
    /// # Errors
    /// What the system reports.
    pub fn write(&mut self, source: &str) -> Result<(), DataError> {
        let (before, after) = match (self.container, self.empty) {
            (Container::JsonLines, _) => ("", "\n"),
            (Container::Json, true) => ("[\n", ""),
            (Container::Json, false) => (",\n", ""),
            (Container::Text, true) => ("", "\n"),
            (Container::Text, false) => ("\n\n", "\n"),
        };
        self.empty = false;
        self.put([before, source, after])
    }

    /// Ends the file and hands the inner writer back, for the caller to give the file its name.
    ///
    /// # Errors
    /// What the system reports.
    pub fn finish(mut self) -> Result<W, DataError> {
        if self.container == Container::Json {
            self.put([if self.empty { "[" } else { "" }, "\n", "]\n"])?;
        }
        let finished = match self.sink {
            Sink::Plain(writer) => Ok(writer),
            Sink::Gzip(writer) => writer.finish(),
            Sink::Zstd(writer) => writer.finish(),
        };
        finished.map_err(|error| DataError::in_file(ErrorKind::Io(error), &self.path))
    }

    fn put(&mut self, parts: [&str; 3]) -> Result<(), DataError> {
        let written = parts.iter().try_for_each(|part| self.sink.write_all(part.as_bytes()));
        written.map_err(|error| DataError::in_file(ErrorKind::Io(error), &self.path))
    }
}

/// The compression that an output's name asks for.
///
/// # Errors
/// A name that is not of the records' container: records are copied, not converted.
pub fn check_name(path: &Path, container: Container) -> Result<Compression, DataError> {
    let (compression, named) = kind_of(path).map_err(|kind| DataError::in_file(kind, path))?;
    if named == container {
        return Ok(compression);
    }
    let (expected, found) = (container.endings(), named.endings());
    Err(DataError::in_file(ErrorKind::OutputName { expected, found }, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{ReaderSettings, RecordReader};

    #[test]
    fn what_is_written_reads_back_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let objects = ["{\"text\": \"one\",\n \"n\": 1.50}", "{\"text\":\"\\u0041 two\"}"];
        let documents = ["one\n\nstill one", "two"];
        let lines = objects.map(|object| object.replace('\n', ""));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        for (stem, container, records) in [
            ("a.json", Container::Json, &objects[..]),
            ("a.jsonl", Container::JsonLines, &lines),
            ("a.txt", Container::Text, &documents),
        ] {
            for ending in ["", ".gz", ".zst"] {
                let path = folder.path().join(format!("{stem}{ending}"));
                let file = std::fs::File::create(&path).unwrap();
                let mut writer = RecordWriter::new(&path, file, container).unwrap();
                records.iter().for_each(|record| writer.write(record).unwrap());
                drop(writer.finish().unwrap());
                let mut reader = RecordReader::open(&path, &ReaderSettings::default()).unwrap();
                let read: Vec<String> = std::iter::from_fn(|| reader.next_source())
                    .map(|item| item.unwrap().source().into())
                    .collect();
                assert_eq!(read, records, "{}", path.display());
            }
        }
    }

    #[test]
    fn another_container_is_refused() {
        let error = check_name(Path::new("out.json"), Container::JsonLines).unwrap_err();
        assert!(error.to_string().contains(".jsonl"), "{error}");
        assert!(check_name(Path::new("out.csv"), Container::JsonLines).is_err());
        assert_eq!(check_name(Path::new("o.ndjson.zst"), Container::JsonLines).unwrap(), Compression::Zstd);
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let bytes =
            RecordWriter::new(Path::new("a.json"), Vec::new(), Container::Json).unwrap().finish().unwrap();
        assert_eq!(bytes, b"[\n]\n");
    }
}
