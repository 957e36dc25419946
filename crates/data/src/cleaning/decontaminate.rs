//! Drops the records of training files that test sets contaminate; what counts says [`super::contamination`].

use super::contamination::{ContaminationReport, Findings, TestSets};
use super::pass::{Input, Item, Watch, pass};
use super::{FileCount, Place};
use crate::error::{DataError, ErrorKind};
use crate::input::{RecordReader, SourceRecord};

/// Records of a file that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ContaminationCount {
    /// Records that hold a part of a test set.
    pub contaminated: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DecontaminateReport {
    /// Records of all files.
    pub total: FileCount<ContaminationCount>,
    /// Each file.
    pub files: Vec<FileCount<ContaminationCount>>,
    /// Test sets, items and records.
    #[serde(flatten)]
    pub found: ContaminationReport,
}

/// Finds contaminated records; calls `keep` with the file's index and every other record, in order. Two passes over the
/// files, because what is a standing phrase is known after the first; memory does not grow with clean records.
///
/// # Errors
/// The first thing wrong in any file; a file that changed between the passes; what `keep` says.
pub fn decontaminate(
    input: Input<'_>,
    sets: &TestSets,
    common_records: usize,
    watch: Watch<'_>,
    mut keep: impl FnMut(usize, &SourceRecord) -> Result<(), DataError>,
) -> Result<DecontaminateReport, DataError> {
    let mut findings = Findings::new(sets, common_records);
    pass::<RecordReader, _>(
        input,
        "looking for test items",
        watch,
        |item: &Item<SourceRecord>| sets.hits(&item.record.record),
        |item, hits| {
            let record = &item.record.record;
            findings.add(&record.file, record.line, hits);
            Ok(())
        },
    )?;
    let (numbers, found) = findings.decide();
    let mut files: Vec<FileCount<ContaminationCount>> =
        input.paths.iter().map(|path| FileCount::new(path)).collect();
    let mut dropped = numbers.iter().zip(&found.contaminated).peekable();
    pass::<RecordReader, _>(
        input,
        "copying",
        watch,
        |_| (),
        |item, ()| {
            let (file, record) = (&mut files[item.file], &item.record.record);
            file.records += 1;
            if let Some((_, expected)) = dropped.next_if(|(number, _)| **number == item.index) {
                let place = Place { file: record.file.to_path_buf(), line: record.line };
                if place != expected.place {
                    return Err(DataError::at_line(ErrorKind::Changed, &record.file, record.line));
                }
                file.found.contaminated += 1;
                return Ok(());
            }
            file.kept += 1;
            keep(item.file, &item.record)
        },
    )?;
    let contaminated = files.iter().map(|file| file.found.contaminated).sum();
    if (contaminated, files.iter().map(|file| file.records).sum()) != (numbers.len(), found.records) {
        return Err(DataError::in_file(ErrorKind::Changed, input.paths.last().expect("records were read")));
    }
    let total = FileCount::total(&files, ContaminationCount { contaminated });
    Ok(DecontaminateReport { total, files, found })
}
