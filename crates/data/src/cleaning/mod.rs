//! What is done to training files before training: duplicates dropped, overlap with test sets dropped, personal data
//! found and replaced, canaries planted.
//!
//! Each function streams the files ([`Input`]), hands on every record that stays, unchanged, to the caller, and returns a
//! report that names places and counts and never quotes a text.

mod canary;
mod contamination;
mod decontaminate;
mod dedup;
mod minhash;
mod pass;
mod pii;
mod test_set;

use std::path::{Path, PathBuf};

pub use canary::{Alphabet, Canary, CanaryList, CanarySettings, SecretSpace, plant};
pub(crate) use contamination::Findings;
pub use contamination::{
    COMMON_RECORDS, ContaminatedRecord, ContaminationReport, HitItem, SHORT_WORDS, TestSetReport, TestSets,
};
pub use decontaminate::{ContaminationCount, DecontaminateReport, decontaminate};
pub use dedup::{Cluster, DedupCount, DedupReport, DedupSettings, Duplicate, dedup};
pub use minhash::Bands;
pub use pass::{Input, Progress, Watch};
pub use pii::{Finding, PiiCount, PiiDetector, PiiKind, PiiPlace, PiiReport, pii, redact};

/// A record in a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line it begins on, 1-based, in the decompressed file.
    pub line: u64,
}

/// Records of a file: read, kept, and what was found in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileCount<T> {
    /// The file; absent for the sum of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Records read.
    pub records: usize,
    /// Records that stay.
    pub kept: usize,
    /// What was found.
    #[serde(flatten)]
    pub found: T,
}

impl<T: Default> FileCount<T> {
    fn new(path: &Path) -> Self {
        Self { file: Some(path.into()), records: 0, kept: 0, found: T::default() }
    }

    fn total(files: &[Self], found: T) -> Self {
        let records = files.iter().map(|file| file.records).sum();
        Self { file: None, records, kept: files.iter().map(|file| file.kept).sum(), found }
    }
}
