//! Personal data in files: every string value of a record is looked at, metadata too.

use super::{PiiDetector, PiiKind, redact};
use crate::cleaning::pass::{Input, Item, Watch, pass};
use crate::cleaning::{FileCount, Place};
use crate::error::{DataError, ErrorKind};
use crate::input::{Container, RawReader, RawRecord, kind_of, rewrite_strings};
use std::collections::BTreeMap;

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PiiCount {
    /// Records that hold personal data.
    pub records_with: usize,
    /// Findings by kind.
    pub findings: BTreeMap<PiiKind, usize>,
}

/// Personal data in one field of a record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PiiPlace {
    /// The record.
    #[serde(flatten)]
    pub place: Place,
    /// The field, such as `messages[2].content`; `text` in a text file.
    pub field: String,
    /// Findings by kind.
    pub findings: BTreeMap<PiiKind, usize>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PiiReport {
    /// The kinds that were looked for.
    pub kinds: Vec<PiiKind>,
    /// All files.
    pub total: FileCount<PiiCount>,
    /// Each file.
    pub files: Vec<FileCount<PiiCount>>,
    /// Where it stands, in order.
    pub places: Vec<PiiPlace>,
}

/// What a thread makes of a record: its fields with findings, and its text with placeholders.
type Scanned = (Vec<(String, BTreeMap<PiiKind, usize>)>, Option<String>);

/// Looks for personal data of some kinds; calls `write` with the file's index and the text of every record, in which
/// placeholders stand for what was found. One pass; records of any JSON layout are accepted. Memory: the places.
///
/// # Errors
/// The first thing wrong in any file; what `write` says.
pub fn pii(
    input: Input<'_>,
    kinds: &[PiiKind],
    watch: Watch<'_>,
    mut write: impl FnMut(usize, &str) -> Result<(), DataError>,
) -> Result<PiiReport, DataError> {
    let detector = PiiDetector::new(kinds);
    let mut containers = Vec::new();
    for path in input.paths {
        containers.push(kind_of(path).map_err(|kind| DataError::in_file(kind, path))?.1);
    }
    let mut files: Vec<FileCount<PiiCount>> = input.paths.iter().map(|path| FileCount::new(path)).collect();
    let mut places = Vec::new();
    let work = |item: &Item<RawRecord>| -> Result<Scanned, DataError> {
        let RawRecord { line, text } = &item.record;
        scan(&detector, text, containers[item.file])
            .map_err(|kind| DataError::at_line(kind, &input.paths[item.file], *line))
    };
    pass::<RawReader, _>(input, "looking for personal data", watch, work, |item, scanned| {
        let (fields, redacted) = scanned?;
        let count = &mut files[item.file];
        count.records += 1;
        count.kept += 1;
        count.found.records_with += usize::from(!fields.is_empty());
        for (field, findings) in fields {
            findings.iter().for_each(|(kind, n)| *count.found.findings.entry(*kind).or_default() += n);
            let place = Place { file: input.paths[item.file].clone(), line: item.record.line };
            places.push(PiiPlace { place, field, findings });
        }
        write(item.file, redacted.as_deref().unwrap_or(&item.record.text))
    })?;
    let mut found = PiiCount::default();
    for file in &files {
        found.records_with += file.found.records_with;
        file.found.findings.iter().for_each(|(kind, n)| *found.findings.entry(*kind).or_default() += n);
    }
    Ok(PiiReport { kinds: kinds.to_vec(), total: FileCount::total(&files, found), files, places })
}

fn scan(detector: &PiiDetector, text: &str, container: Container) -> Result<Scanned, ErrorKind> {
    let mut fields = Vec::new();
    let mut change = |field: &str, text: &str| {
        let findings = detector.find(text);
        if findings.is_empty() {
            return None;
        }
        let mut counts = BTreeMap::new();
        findings.iter().for_each(|finding| *counts.entry(finding.kind).or_default() += 1);
        fields.push((field.to_owned(), counts));
        Some(redact(text, &findings))
    };
    let redacted = match container {
        Container::Text => change("text", text),
        Container::JsonLines | Container::Json => rewrite_strings(text, change)?,
    };
    Ok((fields, redacted))
}
