//! Training records that hold a part of a test set leave the corpus.

use super::{Corpus, Kept, KeptRecords, Split};
use crate::cleaning::{ContaminationReport, Findings, TestSets};
use crate::error::DataError;
use std::collections::HashSet;

pub(super) fn drop_contaminated(
    corpus: &mut Corpus,
    sets: &TestSets,
    common_records: usize,
) -> Result<ContaminationReport, DataError> {
    let mut findings = Findings::new(sets, common_records);
    let (mut entries, mut characters) = (Vec::new(), Vec::new());
    let files = 0..corpus.files.len();
    for kept in (KeptRecords { corpus, only: Some(Split::Train), files, reader: None }) {
        let Kept { record, entry, .. } = kept?;
        let hits = sets.hits(&record);
        if !hits.is_empty() {
            entries.push((findings.records(), entry));
            characters.push(record.num_characters() as u64);
        }
        findings.add(&record.file, record.line, hits);
    }
    let (numbers, report) = findings.decide();
    let numbers: HashSet<usize> = numbers.into_iter().collect();
    for ((number, (file, entry)), characters) in entries.into_iter().zip(characters) {
        if numbers.contains(&number) {
            corpus.files[file].entries[entry].split = None;
            corpus.report.files[file].contaminated += 1;
            let train = &mut corpus.report.splits[Split::Train as usize];
            train.records -= 1;
            train.characters -= characters;
        }
    }
    let kept =
        corpus.files.iter().flat_map(|file| &file.entries).filter(|entry| entry.split == Some(Split::Train));
    let groups: HashSet<u32> = kept.map(|entry| entry.group).collect();
    corpus.report.splits[Split::Train as usize].groups = groups.len();
    Ok(report)
}
