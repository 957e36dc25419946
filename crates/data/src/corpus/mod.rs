//! All files of a run, scanned once: exact duplicates dropped and every source document given to one split.
//!
//! Splits are made before any stage and across all files, so that the same page cannot train in one file
//! and be held out in another. The rule:
//! 1. A record belongs to the documents its document fields name; a preference pair or a rated conversation also to what
//!    its user said first, so that the rows of one prompt stay together; a record without any, to its own content.
//! 2. Documents that share a long text (a line or a message of at least `shared_text_characters`) are one
//!    group, unless more than `boilerplate_documents` documents share it: then it is boilerplate.
//! 3. A group's draw is a hash of its smallest document hash and the seed; the draw decides the split.
//!    It depends neither on the order of files nor on the other groups.
//! 4. If a split with a share got no group, the training group with the smallest draw goes to it, as long
//!    as training keeps one. Only tiny collections are touched by this.

mod contaminated;
mod overlap;
mod report;
mod scan;
mod split;

#[cfg(test)]
mod tests;

use crate::cleaning::{ContaminationReport, TestSets};
use crate::error::{DataError, ErrorKind};
use crate::input::{ReaderSettings, RecordReader};
use crate::record::Record;
use std::path::{Path, PathBuf};

pub use overlap::{Example, OverlapReport, PairOverlap};
pub use report::{CorpusReport, FileReport, SplitReport};

/// What a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Learned from.
    Train,
    /// Looked at while training.
    Validation,
    /// Looked at once, at the end.
    Test,
}

impl Split {
    /// The three splits.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The name in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// How a corpus is scanned.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusSettings {
    /// How files are read.
    pub reader: ReaderSettings,
    /// Seed of the splits.
    pub seed: u64,
    /// Share of the document groups for validation, 0 to 1.
    pub validation: f64,
    /// Share of the document groups for the test, 0 to 1.
    pub test: f64,
    /// Length from which a line or message that two documents share ties them together, in characters.
    pub shared_text_characters: usize,
    /// A text that more documents than this share ties nothing together.
    pub boilerplate_documents: usize,
}

impl Default for CorpusSettings {
    fn default() -> Self {
        Self {
            reader: ReaderSettings::default(),
            seed: 0,
            validation: 0.05,
            test: 0.05,
            shared_text_characters: 200,
            boilerplate_documents: 16,
        }
    }
}

/// What the scan remembers of one record: 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Low half of the content hash.
    content: u64,
    /// Index of its document group.
    group: u32,
    /// `None`: dropped, as a duplicate or because it is blank.
    split: Option<Split>,
}

/// One file of the corpus.
#[derive(Debug)]
struct ScannedFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// The scanned files.
#[derive(Debug)]
pub struct Corpus {
    settings: CorpusSettings,
    files: Vec<ScannedFile>,
    report: CorpusReport,
}

impl Corpus {
    /// Reads every file once. A path that occurs twice counts once.
    ///
    /// Memory: about 24 bytes a record, 40 a document and 16 a long text; no text is kept.
    ///
    /// # Errors
    /// The first thing wrong in any file, and shares that are not between 0 and 1 or leave no training data.
    pub fn scan<P: AsRef<Path>>(paths: &[P], settings: &CorpusSettings) -> Result<Self, DataError> {
        let shares = [settings.validation, settings.test];
        if shares.iter().any(|share| !(0.0..1.0).contains(share)) || shares.iter().sum::<f64>() >= 1.0 {
            return Err(ErrorKind::Setting {
                name: "validation and test",
                expected: "shares from 0 to below 1, together below 1",
                found: format!("{} and {}", settings.validation, settings.test),
            }
            .into());
        }
        let mut unique: Vec<&Path> = Vec::new();
        for path in paths {
            if !unique.contains(&path.as_ref()) {
                unique.push(path.as_ref());
            }
        }
        scan::scan(&unique, settings)
    }

    /// What was found and decided.
    pub fn report(&self) -> &CorpusReport {
        &self.report
    }

    /// The paths of the files, in the order given.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Streams the kept records of one split, of one file (index into [`Corpus::files`]) or of all.
    pub fn records(&self, split: Split, file: Option<usize>) -> Records<'_> {
        let files = match file {
            Some(index) => index..(index + 1).min(self.files.len()),
            None => 0..self.files.len(),
        };
        Records(KeptRecords { corpus: self, only: Some(split), files, reader: None })
    }

    /// Streams the kept records of all splits.
    fn kept_records(&self) -> KeptRecords<'_> {
        KeptRecords { corpus: self, only: None, files: 0..self.files.len(), reader: None }
    }

    /// Drops the training records that contain items of test sets ([`crate::cleaning::TestSets`]), those of which more than
    /// `common_records` records hold every gram excepted. Held-out records stay: nothing learns from them.
    ///
    /// # Errors
    /// A file that changed since the scan or cannot be read any more.
    pub fn decontaminate(
        &mut self,
        sets: &TestSets,
        common_records: usize,
    ) -> Result<ContaminationReport, DataError> {
        contaminated::drop_contaminated(self, sets, common_records)
    }

    /// Measures what held-out splits share with training, as word 13-grams.
    ///
    /// # Errors
    /// A file that changed since the scan or cannot be read any more.
    pub fn overlap(&self) -> Result<OverlapReport, DataError> {
        overlap::measure(self)
    }
}

/// Iterator over the records of a split. After an error it ends.
pub struct Records<'a>(KeptRecords<'a>);

impl Iterator for Records<'_> {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|item| item.map(|kept| kept.record))
    }
}

/// A record that was kept.
struct Kept {
    record: Record,
    split: Split,
    /// Its file, and its entry there.
    entry: (usize, usize),
}

/// Iterator over kept records with their split.
struct KeptRecords<'a> {
    corpus: &'a Corpus,
    only: Option<Split>,
    files: std::ops::Range<usize>,
    /// File, index of its next record, reader.
    reader: Option<(usize, usize, RecordReader)>,
}

impl KeptRecords<'_> {
    fn read(&mut self) -> Result<Option<Kept>, DataError> {
        let only = self.only;
        let wanted = |entry: &Entry| entry.split.filter(|&split| only.is_none_or(|only| only == split));
        loop {
            let Some((file, index, reader)) = &mut self.reader else {
                let Some(file) = self.files.next() else { return Ok(None) };
                let scanned = &self.corpus.files[file];
                if scanned.entries.iter().any(|entry| wanted(entry).is_some()) {
                    let reader = RecordReader::open(&scanned.path, &self.corpus.settings.reader)?;
                    self.reader = Some((file, 0, reader));
                }
                continue;
            };
            let scanned = &self.corpus.files[*file];
            let record = reader.next().transpose()?;
            let entry = scanned.entries.get(*index);
            let place = (*file, *index);
            *index += 1;
            match (record, entry) {
                (None, None) => self.reader = None,
                (Some(record), Some(entry)) => {
                    let Some(split) = wanted(entry) else { continue };
                    if record.content_hash() as u64 != entry.content {
                        return Err(DataError::at_line(ErrorKind::Changed, &scanned.path, record.line));
                    }
                    return Ok(Some(Kept { record, split, entry: place }));
                }
                _ => return Err(DataError::in_file(ErrorKind::Changed, &scanned.path)),
            }
        }
    }
}

impl Iterator for KeptRecords<'_> {
    type Item = Result<Kept, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.files = 0..0;
            self.reader = None;
        }
        item
    }
}
