//! What a scan found and decided, for people.

use crate::input::FileFormat;
use std::path::PathBuf;

/// One file.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub format: FileFormat,
    /// Records read.
    pub records: usize,
    /// Records dropped because the same content came before, in this file or an earlier one.
    pub duplicates: usize,
    /// Records dropped because they hold white space only.
    pub blank: usize,
    /// Training records dropped because they hold a part of a test set.
    pub contaminated: usize,
}

/// One split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitReport {
    /// Groups of documents in it.
    pub groups: usize,
    /// Records kept in it.
    pub records: usize,
    /// Their length in characters.
    pub characters: u64,
}

/// The whole scan.
#[derive(Clone, Debug, Default)]
pub struct CorpusReport {
    /// The files in the order given.
    pub files: Vec<FileReport>,
    /// Train, validation, test: index with `Split as usize`.
    pub splits: [SplitReport; 3],
    /// Distinct source documents, records without one counting each for itself.
    pub documents: usize,
    /// Documents in the largest group.
    pub largest_group: usize,
    /// Long texts that tied documents together.
    pub shared_texts: usize,
    /// Long texts that too many documents share to tie them together.
    pub boilerplate_texts: usize,
}

impl CorpusReport {
    /// Records dropped as duplicates, in all files.
    pub fn duplicates(&self) -> usize {
        self.files.iter().map(|file| file.duplicates).sum()
    }

    /// Records read, in all files.
    pub fn records(&self) -> usize {
        self.files.iter().map(|file| file.records).sum()
    }
}
