//! Checkpoints of a run: written so that a kill at any moment leaves the newest complete one readable.
//!
//! `checkpoint-<step>/` is a Hugging Face folder (weights in f32, so nothing is lost), or the PEFT folder of an adapter, and
//! besides:
//!
//! | file | holds |
//! |---|---|
//! | `training_state.safetensors` | what the optimizer remembers of every parameter, by the names of PyTorch's |
//! | `training_state.json` | [`TrainingState`]: step, data position, seeds, what the run was computed with |
//! | `checksums.sha256` | SHA-256 of every file, written last |
//!
//! The order of a save: fill `.checkpoint-<step>.tmp`, flush, write the checksums, rename, flush the run folder, then
//! delete the oldest checkpoints (renamed first). So a folder called `checkpoint-<step>` was complete once; a reader
//! checks the checksums all the same, skips what does not match, and says so.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shakti_checkpoint::Overwrite;
use shakti_checkpoint::safetensors::{PlannedTensor, SafetensorsFile, write_safetensors};
use shakti_model::ParamSpec;

use crate::TrainError;
use crate::optimizer::{GradientMemory, Optimizer, StateTensor};

/// What a run is besides weights and running means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    /// Version of this file, 1.
    pub version: u32,
    /// Steps made.
    pub step: u64,
    /// Input tokens seen.
    pub tokens_seen: u64,
    /// Where the data stream stands.
    pub data_position: shakti_data::Position,
    /// What else the objective needs to go on, as the bits of f64 numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objective_bits: BTreeMap<String, u64>,
    /// SHA-256 of the resolved recipe, the place of the run folder left out.
    pub recipe_sha256: String,
    /// Seed of the run.
    pub seed: u64,
    /// Kernel set that computed it.
    pub kernel_set: String,
    /// Running mean of the gradient norm, as the bits of an f64: JSON numbers may lose the last one.
    pub usual_norm_bits: u64,
    /// Per parameter, in state-dict order: steps in a row with a gradient of exactly 0.
    pub zero_gradient_steps: Vec<u64>,
}

impl TrainingState {
    /// The numbers of [`TrainingState::objective_bits`].
    pub(crate) fn objective(&self) -> BTreeMap<String, f64> {
        self.objective_bits.iter().map(|(name, bits)| (name.clone(), f64::from_bits(*bits))).collect()
    }

    /// The inverse of [`TrainingState::objective`].
    pub(crate) fn bits(numbers: &BTreeMap<String, f64>) -> BTreeMap<String, u64> {
        numbers.iter().map(|(name, number)| (name.clone(), number.to_bits())).collect()
    }
}

/// Version of [`TrainingState`].
pub(crate) const STATE_VERSION: u32 = 1;
const STATE_FILE: &str = "training_state.json";
const MEANS_FILE: &str = "training_state.safetensors";
/// Longest state file that is read, in bytes.
const MAX_STATE_BYTES: u64 = 16 << 20;

/// One file operation of a save, so that a test can kill the process before each.
pub(crate) trait Operations {
    /// Does `action`, which is described by `what`.
    fn run(
        &mut self,
        what: &'static str,
        action: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<(), TrainError>;
}

/// Does every operation.
pub(crate) struct Uninterrupted;

impl Operations for Uninterrupted {
    fn run(
        &mut self,
        _what: &'static str,
        action: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        action()
    }
}

/// The checkpoints in a run folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    run: PathBuf,
    keep: usize,
    /// Steps whose checkpoints stay however old they are.
    protected: Vec<u64>,
}

impl Checkpoints {
    /// The checkpoints in the folder `run`, of which the newest `keep` stay.
    pub fn new(run: &Path, keep: usize) -> Self {
        Self { run: run.to_path_buf(), keep: keep.max(1), protected: Vec::new() }
    }

    /// From now on the checkpoints of these steps stay besides the newest.
    pub fn protect(&mut self, steps: Vec<u64>) {
        self.protected = steps;
    }

    /// The folder of a step's checkpoint.
    pub fn path(&self, step: u64) -> PathBuf {
        self.run.join(format!("checkpoint-{step}"))
    }

    /// Steps that have a folder, oldest first; it may be damaged.
    ///
    /// # Errors
    /// If the run folder cannot be listed; one that does not exist has none.
    pub fn steps(&self) -> Result<Vec<u64>, TrainError> {
        let names = match fs::read_dir(&self.run) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(TrainError::file(&self.run, "list"))?,
        };
        let mut steps = Vec::new();
        for name in names {
            let name = name.map_err(TrainError::file(&self.run, "list"))?.file_name();
            steps.extend(name.to_str().and_then(|name| name.strip_prefix("checkpoint-")).and_then(number));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest checkpoint whose checksums match; `warn` is told of each newer one that is damaged.
    ///
    /// # Errors
    /// If the run folder cannot be listed.
    pub fn newest(&self, warn: &mut dyn FnMut(&str)) -> Result<Option<(u64, PathBuf)>, TrainError> {
        for step in self.steps()?.into_iter().rev() {
            let path = self.path(step);
            match shakti_checkpoint::verify_manifest(&path) {
                Ok(()) => return Ok(Some((step, path))),
                Err(error) => warn(&format!("checkpoint skipped: {error}")),
            }
        }
        Ok(None)
    }

    /// Writes the checkpoint of `state.step`; `write_model` fills a folder with the model's files.
    ///
    /// # Errors
    /// If something cannot be written; the checkpoints that were there are then untouched.
    pub fn save(
        &self,
        state: &TrainingState,
        optimizer: (&Optimizer, &[ParamSpec]),
        write_model: &mut dyn FnMut(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        self.save_with(&mut Uninterrupted, state, optimizer, write_model)
    }

    fn save_with(
        &self,
        operations: &mut dyn Operations,
        state: &TrainingState,
        optimizer: (&Optimizer, &[ParamSpec]),
        write_model: &mut dyn FnMut(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let temporary = self.run.join(format!(".checkpoint-{}.tmp", state.step));
        let path = self.path(state.step);
        let written = self.write(operations, (&temporary, &path), state, optimizer, write_model);
        if written.is_err() {
            // The first error is the one to report; what cannot be removed now is removed by the next save.
            let _ = operations.run("remove the unfinished checkpoint", &mut || remove_folder(&temporary));
        }
        written?;
        self.prune(operations, state.step)?;
        Ok(path)
    }

    fn write(
        &self,
        operations: &mut dyn Operations,
        (temporary, path): (&Path, &Path),
        state: &TrainingState,
        optimizer: (&Optimizer, &[ParamSpec]),
        write_model: &mut dyn FnMut(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        operations.run("remove what a kill left behind", &mut || remove_folder(temporary))?;
        operations
            .run("create the folder", &mut || Ok(shakti_checkpoint::files::create_folder(temporary)?))?;
        operations.run("write the model", &mut || write_model(temporary))?;
        operations
            .run("write the running means", &mut || write_states(&temporary.join(MEANS_FILE), optimizer))?;
        operations.run("write the state", &mut || {
            let text = serde_json::to_string_pretty(state).expect("a struct of numbers and strings");
            let file = temporary.join(STATE_FILE);
            Ok(shakti_checkpoint::files::write_file(&file, text.as_bytes(), Overwrite::Replace)?)
        })?;
        operations.run("write the checksums", &mut || Ok(shakti_checkpoint::write_manifest(temporary)?))?;
        operations.run("flush the folder", &mut || sync_folder(temporary))?;
        // A folder of this step can only be one that was damaged and skipped.
        operations.run("remove the damaged one", &mut || remove_folder(path))?;
        operations.run("rename", &mut || {
            fs::rename(temporary, path).map_err(TrainError::file(path, "rename the checkpoint to"))
        })?;
        operations.run("flush the run folder", &mut || sync_folder(&self.run))
    }

    /// Deletes all but the newest and the protected checkpoints up to `step`; a later one is damaged, else the run had begun there.
    fn prune(&self, operations: &mut dyn Operations, step: u64) -> Result<(), TrainError> {
        let mut steps = self.steps()?;
        steps.retain(|other| *other <= step);
        steps.truncate(steps.len().saturating_sub(self.keep));
        for step in steps.iter().filter(|step| !self.protected.contains(step)) {
            let (path, doomed) = (self.path(*step), self.run.join(format!(".checkpoint-{step}.tmp")));
            operations.run("remove what a kill left behind", &mut || remove_folder(&doomed))?;
            operations.run("rename the old one", &mut || {
                fs::rename(&path, &doomed).map_err(TrainError::file(&path, "rename"))
            })?;
            operations.run("remove the old one", &mut || remove_folder(&doomed))?;
        }
        Ok(())
    }

    /// Removes unfinished folders that a kill left behind.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn clean(&self) -> Result<(), TrainError> {
        let Ok(entries) = fs::read_dir(&self.run) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let step = name.to_str().and_then(|name| name.strip_prefix(".checkpoint-")?.strip_suffix(".tmp"));
            if step.and_then(number).is_some() {
                remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// A step in a folder's name, in the one spelling that is written.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|step: &u64| step.to_string() == text)
}

fn remove_folder(path: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::file(path, "remove")(error))
        }
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable, where folders can be flushed.
pub(crate) fn sync_folder(path: &Path) -> Result<(), TrainError> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(path).and_then(|folder| folder.sync_all()).map_err(TrainError::file(path, "flush"))
}

fn write_states(path: &Path, (optimizer, specs): (&Optimizer, &[ParamSpec])) -> Result<(), TrainError> {
    let plan = |tensor: StateTensor<'_>| PlannedTensor {
        name: tensor.name,
        dtype: tensor.values.dtype(),
        byte_len: tensor.values.byte_len(),
        shape: tensor.shape,
    };
    let planned: Vec<PlannedTensor> = optimizer.tensors(specs).map(plan).collect();
    let mut tensors = optimizer.tensors(specs);
    let bytes = |_: &PlannedTensor| {
        let tensor = tensors.next().expect("as many tensors as were planned");
        Ok(tensor.values.bytes().into())
    };
    Ok(write_safetensors(path, Overwrite::Replace, &planned, bytes)?)
}

/// Reads the state of a checkpoint and, into `optimizer`, what it remembers of the parameters `specs`.
///
/// # Errors
/// Names the file and tensor that is missing or of another shape.
pub(crate) fn load_state(
    folder: &Path,
    optimizer: &mut Optimizer,
    specs: &[ParamSpec],
) -> Result<TrainingState, TrainError> {
    let state = read_state(&folder.join(STATE_FILE))?;
    let tensors = optimizer.memory.zero_steps.len();
    if state.zero_gradient_steps.len() != tensors {
        let problem = format!("state of {} parameters, expected {tensors}", state.zero_gradient_steps.len());
        return Err(TrainError::checkpoint(&folder.join(STATE_FILE), problem));
    }
    read_states(&folder.join(MEANS_FILE), optimizer, specs)?;
    optimizer.memory = GradientMemory {
        steps: state.step,
        usual_norm: f64::from_bits(state.usual_norm_bits),
        zero_steps: state.zero_gradient_steps.clone(),
    };
    Ok(state)
}

fn read_state(path: &Path) -> Result<TrainingState, TrainError> {
    let size = fs::metadata(path).map_err(TrainError::file(path, "read"))?.len();
    if size > MAX_STATE_BYTES {
        return Err(TrainError::checkpoint(
            path,
            format!("{size} bytes, expected at most {MAX_STATE_BYTES}"),
        ));
    }
    let text = fs::read_to_string(path).map_err(TrainError::file(path, "read"))?;
    let state: TrainingState =
        serde_json::from_str(&text).map_err(|error| TrainError::checkpoint(path, error.to_string()))?;
    if state.version != STATE_VERSION {
        return Err(TrainError::checkpoint(
            path,
            format!("version {}, expected {STATE_VERSION}", state.version),
        ));
    }
    Ok(state)
}

fn read_states(path: &Path, optimizer: &mut Optimizer, specs: &[ParamSpec]) -> Result<(), TrainError> {
    let file = SafetensorsFile::open(path)?;
    let mut found = Vec::new();
    for StateTensor { name, shape, values } in optimizer.tensors(specs) {
        let dtype = values.dtype();
        let tensor = file.tensor(&name);
        let fits = tensor.filter(|tensor| tensor.dtype == dtype && tensor.shape == shape);
        let Some(tensor) = fits else {
            let found = tensor.map_or("none".into(), |tensor| format!("{} {:?}", tensor.dtype, tensor.shape));
            let problem = format!("tensor `{name}`: expected {dtype} {shape:?}, found {found}");
            return Err(TrainError::checkpoint(path, problem));
        };
        found.push(file.bytes(tensor));
    }
    let mut found = found.into_iter();
    optimizer.fill(|| found.next().unwrap_or_default().to_vec());
    Ok(())
}

#[cfg(test)]
mod tests;
