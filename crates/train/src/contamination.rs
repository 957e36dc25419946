//! What the training records of a run share with what it is judged by: test sets that the recipe names, and the held-out
//! splits. Measured by every run and stored in its folder.

use std::path::Path;

use serde::Serialize;
use shakti_checkpoint::Overwrite;
use shakti_data::cleaning::{COMMON_RECORDS, ContaminationReport, TestSets};
use shakti_data::{Corpus, OverlapReport, ReaderSettings};

use crate::TrainError;
use crate::recipe::DataSection;

/// Name of the file in the run folder.
pub const CONTAMINATION_FILE: &str = "contamination.json";

/// The report of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contamination {
    /// The test sets of `data.decontaminate` and the records left out because of them; absent if none are named.
    pub test_sets: Option<ContaminationReport>,
    /// What validation and test share with the records that are trained on.
    pub held_out: OverlapReport,
}

impl Contamination {
    /// Drops what the recipe's test sets contaminate, then measures the held-out splits.
    pub(crate) fn remove(corpus: &mut Corpus, data: &DataSection) -> Result<Self, TrainError> {
        let mut test_sets = None;
        if !data.decontaminate.is_empty() {
            let sets = TestSets::read(&data.decontaminate, &ReaderSettings::default())?;
            test_sets = Some(corpus.decontaminate(&sets, COMMON_RECORDS)?);
        }
        Ok(Self { test_sets, held_out: corpus.overlap()? })
    }

    /// Stores the report in a run folder; the same data gives the same bytes.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let mut json = serde_json::to_vec_pretty(self).expect("paths and numbers make JSON");
        json.push(b'\n');
        let path = folder.join(CONTAMINATION_FILE);
        Ok(shakti_checkpoint::files::write_file(&path, &json, Overwrite::Replace)?)
    }
}
