//! What the reference says of every item: computed once and kept in the run folder.

use std::path::Path;

use shakti_checkpoint::Overwrite;
use shakti_checkpoint::safetensors::{PlannedTensor, SafetensorsFile, write_safetensors};

use crate::TrainError;
use crate::observer::{Event, Observer};
use crate::run_folder::{REFERENCE_FILE, RunFolder};
use crate::trainer::Trainer;

/// Two sums of log-probabilities for each item.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reference(Vec<f64>);

impl Reference {
    /// Where nothing asks for it.
    pub fn zeros(items: usize) -> Self {
        Self(vec![0.0; 2 * items])
    }

    /// Of one item.
    pub fn of(&self, item: usize) -> [f64; 2] {
        [self.0[2 * item], self.0[2 * item + 1]]
    }

    /// Those of training and held-out items that the run folder holds for this data and these weights, or else what
    /// `compute` gives, which is then kept there.
    pub fn load_or(
        folder: &RunFolder,
        trainer: &Trainer<'_>,
        data: &str,
        observer: &mut dyn Observer,
        compute: impl FnOnce() -> Result<[Vec<f64>; 2], TrainError>,
    ) -> Result<[Self; 2], TrainError> {
        let path = folder.path().join(REFERENCE_FILE);
        let key = format!("{data}.{}", &trainer.reference_sha256()[..32]);
        if let Some(found) = load(&path, &key)? {
            return Ok(found);
        }
        observer.event(&Event::Reference);
        let sums = compute()?;
        let found = sums.map(Self);
        save(&path, &key, &found)?;
        Ok(found)
    }
}

const SPLITS: [&str; 2] = ["train", "validation"];

fn load(path: &Path, key: &str) -> Result<Option<[Reference; 2]>, TrainError> {
    if !path.exists() {
        return Ok(None);
    }
    let file = SafetensorsFile::open(path)?;
    let read = |split: &str| {
        let tensor = file.tensor(&format!("{key}.{split}"))?;
        let (words, _) = file.bytes(tensor).as_chunks::<8>();
        (tensor.dtype == "F64").then(|| Reference(words.iter().map(|b| f64::from_le_bytes(*b)).collect()))
    };
    let [train, validation] = SPLITS.map(read);
    Ok(train.zip(validation).map(|(train, validation)| [train, validation]))
}

fn save(path: &Path, key: &str, both: &[Reference; 2]) -> Result<(), TrainError> {
    let planned: Vec<PlannedTensor> = SPLITS
        .iter()
        .zip(both)
        .map(|(split, sums)| PlannedTensor {
            name: format!("{key}.{split}"),
            dtype: "F64",
            byte_len: 8 * sums.0.len(),
            shape: vec![sums.0.len()],
        })
        .collect();
    let mut bytes =
        both.iter().map(|sums| sums.0.iter().flat_map(|sum| sum.to_le_bytes()).collect::<Vec<_>>());
    Ok(write_safetensors(path, Overwrite::Replace, &planned, |_| {
        Ok(bytes.next().unwrap_or_default().into())
    })?)
}
