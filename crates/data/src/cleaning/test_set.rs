//! The items of a test set, as texts: what must not be trained on.
//!
//! | ending | an item | its texts |
//! |---|---|---|
//! | `.jsonl`, `.ndjson` | a line | every string in it, however deep; names of fields are none |
//! | `.json` | an object of the list or of a sequence; if the file is one object, every object directly inside its lists and objects | the same |
//! | `.csv` | a row, a header row too | its cells |
//! | `.tsv` | a line, quotes are text | its cells |
//! | `.txt` | a line that is not blank | the line |

use crate::error::{DataError, ErrorKind};
use crate::input::{
    Compression, Container, RawReader, RawRecord, ReaderSettings, endings, open, parse_value,
};
use serde_json::Value;
use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestItem {
    /// The line it begins on, 1-based; of the whole object where the file is one.
    pub(super) line: u64,
    pub(super) texts: Vec<String>,
}

/// Calls `take` with every item of a file, in order.
pub(super) fn for_each_item(
    path: &Path,
    settings: &ReaderSettings,
    mut take: impl FnMut(TestItem),
) -> Result<(), DataError> {
    let (compression, ending) = endings(path);
    match ending.as_str() {
        "csv" => return table(path, compression, b',', settings, take),
        "tsv" => return table(path, compression, b'\t', settings, take),
        "txt" => {
            for line in RawReader::open_lines(path, settings)? {
                let RawRecord { line, text } = line?;
                take(TestItem { line, texts: vec![text] });
            }
            return Ok(());
        }
        "jsonl" | "ndjson" | "json" => {}
        _ => return Err(DataError::in_file(ErrorKind::UnknownTestSet, path)),
    }
    let mut records = RawReader::open(path, settings)?;
    let is_whole = records.container() == Container::Json;
    let parse = |record: RawRecord| -> Result<(u64, Value), DataError> {
        let value = parse_value(&record.text);
        value.map(|value| (record.line, value)).map_err(|kind| DataError::at_line(kind, path, record.line))
    };
    let Some(first) = records.next().transpose()? else { return Ok(()) };
    let (line, first) = parse(first)?;
    let mut second = records.next().transpose()?;
    match inner_objects(&first) {
        inner if is_whole && second.is_none() && !inner.is_empty() => {
            inner.into_iter().for_each(|value| take(TestItem { line, texts: strings(value) }));
        }
        _ => take(TestItem { line, texts: strings(&first) }),
    }
    while let Some(record) = second {
        let (line, value) = parse(record)?;
        take(TestItem { line, texts: strings(&value) });
        second = records.next().transpose()?;
    }
    Ok(())
}

/// The objects directly inside the lists and objects of a file that is one object.
fn inner_objects(value: &Value) -> Vec<&Value> {
    let Value::Object(fields) = value else { return Vec::new() };
    let inside = fields.values().flat_map(|value| match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(_) => vec![value],
        _ => Vec::new(),
    });
    inside.filter(|value| value.is_object()).collect()
}

/// Every string in a value.
fn strings(value: &Value) -> Vec<String> {
    fn collect(value: &Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
            Value::Object(fields) => fields.values().for_each(|item| collect(item, texts)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut texts = Vec::new();
    collect(value, &mut texts);
    texts
}

/// Ends a file whose quotes never close before it fills the memory.
struct Limited<R> {
    inner: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left.get());
        if most == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.inner.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read);
        Ok(read)
    }
}

fn table(
    path: &Path,
    compression: Compression,
    delimiter: u8,
    settings: &ReaderSettings,
    mut take: impl FnMut(TestItem),
) -> Result<(), DataError> {
    let at = |kind| DataError::in_file(kind, path);
    let limit = settings.max_record_bytes;
    let left = Rc::new(Cell::new(limit));
    let input = open(path, compression, Default::default()).map_err(at)?;
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .quoting(delimiter == b',')
        .from_reader(Limited { inner: input, left: left.clone() });
    let mut row = csv::StringRecord::new();
    loop {
        let line = rows.position().line();
        match rows.read_record(&mut row) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(_) if left.get() == 0 => {
                let kind = ErrorKind::RecordTooLong { limit, hint: "is there a quote that never closes?" };
                return Err(DataError::at_line(kind, path, line));
            }
            Err(error) => return Err(table_error(error, compression, path, line)),
        }
        left.set(limit);
        let line = row.position().map_or(line, csv::Position::line);
        take(TestItem { line, texts: row.iter().map(str::to_owned).collect() });
    }
}

fn table_error(error: csv::Error, compression: Compression, path: &Path, line: u64) -> DataError {
    let problem = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => DataError::in_file(compression.error(error), path),
        csv::ErrorKind::Utf8 { err, .. } => {
            DataError::at_line(ErrorKind::InvalidUtf8 { byte: err.valid_up_to() }, path, line)
        }
        _ => DataError::at_line(ErrorKind::Table(problem), path, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(name: &str, text: &[u8]) -> Result<Vec<(u64, Vec<String>)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let settings = ReaderSettings { max_record_bytes: 1000, ..Default::default() };
        let mut items = Vec::new();
        for_each_item(&path, &settings, |item| items.push((item.line, item.texts)))?;
        Ok(items)
    }

    #[track_caller]
    fn texts_are(name: &str, text: &str, expected: &[(u64, &[&str])]) {
        let found = items(name, text.as_bytes()).unwrap();
        let expected: Vec<(u64, Vec<String>)> = expected
            .iter()
            .map(|(line, texts)| (*line, texts.iter().map(|&text| text.into()).collect()))
            .collect();
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn items_of_every_kind_of_file() {
        texts_are(
            "a.jsonl",
            "{\"q\": \"x\", \"choices\": {\"text\": [\"a\", \"b\"]}, \"n\": 3}\n\n{\"q\": \"y\"}\n",
            &[(1, &["a", "b", "x"]), (3, &["y"])],
        );
        texts_are("a.json", "[{\"q\": \"x\"},\n{\"q\": \"y\"}]", &[(1, &["x"]), (2, &["y"])]);
        texts_are(
            "a.json",
            "{\"about\": \"z\", \"examples\": [{\"q\": \"x\"}, {\"q\": \"y\"}]}",
            &[(1, &["x"]), (1, &["y"])],
        );
        texts_are("a.json", "{\"7\": {\"q\": [\"x\"]}, \"8\": {\"q\": \"y\"}}", &[(1, &["x"]), (1, &["y"])]);
        texts_are("a.json", "{\"q\": \"x\", \"choices\": [\"a\"]}", &[(1, &["a", "x"])]);
        texts_are("a.csv", "\"x, y\",\"a\nb\"\nz,1,2\n", &[(1, &["x, y", "a\nb"]), (3, &["z", "1", "2"])]);
        texts_are("a.tsv", "\"x\ty\nz\n", &[(1, &["\"x", "y"]), (2, &["z"])]);
        texts_are("a.txt", "x\n \ny\n", &[(1, &["x"]), (3, &["y"])]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let message = |name: &str, text: &[u8]| items(name, text).unwrap_err().to_string();
        assert!(message("a.xlsx", b"PK").contains("a.xlsx: unknown kind of test set"));
        assert!(message("a.csv", b"x\n\xFF\n").contains("a.csv:2: invalid UTF-8"));
        assert!(message("a.jsonl", b"{\"q\": 1}\n{\n").contains("a.jsonl:2: invalid JSON"));
        let open_quote = format!("x\n\"{}", "y\n".repeat(2000));
        assert!(
            message("a.csv", open_quote.as_bytes())
                .contains("a.csv:2: record longer than the limit of 1000 bytes")
        );
    }
}
