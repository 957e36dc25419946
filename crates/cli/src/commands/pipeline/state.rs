//! What a pipeline remembers beside its file: of each stage what it was made from and what it made, as hashes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shakti_checkpoint::Overwrite;
use shakti_checkpoint::files::{sha256_bytes, sha256_file, write_file};

use super::file::Stage;
use crate::failure::{Failure, FailureExt};

/// Version of the state file.
const VERSION: u32 = 1;
/// Longest state file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Everything that decides what a stage makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingredients {
    /// Version of this program.
    pub program: String,
    /// The command and the global flags that can change a result.
    pub command: Vec<String>,
    /// SHA-256 of each input, by path; of a folder that of the names and hashes in it.
    pub inputs: BTreeMap<PathBuf, String>,
}

/// A stage that was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it was started with.
    pub made_from: Ingredients,
    /// What it was to write, so that nothing else is ever deleted.
    pub outputs: Vec<PathBuf>,
    /// SHA-256 of each output once it was finished.
    pub made: Option<BTreeMap<PathBuf, String>>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The records of a pipeline by the names of its stages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    pub stages: BTreeMap<String, Record>,
    #[serde(skip)]
    path: PathBuf,
}

impl State {
    /// Reads the state beside a pipeline file; empty if there is none.
    ///
    /// # Errors
    /// A file that is not one of ours.
    pub fn open(pipeline: &Path) -> Result<Self, Failure> {
        let mut name = pipeline.as_os_str().to_owned();
        name.push(".state.json");
        let path = PathBuf::from(name);
        let Ok(metadata) = fs::metadata(&path) else {
            return Ok(Self { version: VERSION, stages: BTreeMap::new(), path });
        };
        let shown = path.display();
        if metadata.len() > MAX_BYTES {
            let len = metadata.len();
            return Err(Failure::bad_input(format!("{shown}: {len} bytes, expected at most {MAX_BYTES}")));
        }
        let text = fs::read_to_string(&path).context(format!("{shown}: cannot read"))?;
        let delete = "delete it to run every stage again";
        let state: Self =
            serde_json::from_str(&text).context(format!("{shown}: not a pipeline's state")).hint(delete)?;
        if state.version != VERSION {
            let message = format!("{shown}: version {}, expected {VERSION}", state.version);
            return Err(Failure::bad_input(message).hint(delete));
        }
        Ok(Self { path, ..state })
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        Ok(write_file(&self.path, text.as_bytes(), Overwrite::Replace)?)
    }
}

impl Ingredients {
    /// Those of a stage as its inputs are now.
    ///
    /// # Errors
    /// An input that is missing or cannot be read.
    pub fn of(stage: &Stage, flags: &[String]) -> Result<Self, Failure> {
        let mut inputs = BTreeMap::new();
        for input in stage.all_inputs()? {
            let hash = hash(&input).context(format!("stage `{}`: input", stage.name))?;
            inputs.insert(input, hash);
        }
        let command = flags.iter().chain(&stage.command).cloned().collect();
        Ok(Self { program: env!("CARGO_PKG_VERSION").into(), command, inputs })
    }

    /// Why a stage made from these is not what `now` would make; `None` if it is.
    pub fn difference(&self, now: &Self) -> Option<String> {
        if self.program != now.program {
            return Some(format!("made by version {}, this is {}", self.program, now.program));
        }
        if self.command != now.command {
            return Some("its command changed".into());
        }
        let changed = now.inputs.iter().find(|(path, hash)| self.inputs.get(*path) != Some(hash));
        let gone = self.inputs.keys().find(|path| !now.inputs.contains_key(*path));
        changed.map(|(path, _)| path).or(gone).map(|path| format!("{} changed", path.display()))
    }
}

impl Record {
    /// Why its outputs are not those that were made; `None` if they are.
    ///
    /// # Errors
    /// An output that cannot be read.
    pub fn damage(&self) -> Result<Option<String>, Failure> {
        let Some(made) = &self.made else { return Ok(Some("it was interrupted".into())) };
        for (path, expected) in made {
            if !path.exists() {
                return Ok(Some(format!("{} is gone", path.display())));
            }
            if hash(path)? != *expected {
                return Ok(Some(format!("{} is not what the stage wrote", path.display())));
            }
        }
        Ok(None)
    }
}

/// SHA-256 of a file, or of the sorted names and hashes of a folder's files; hidden files and times do not count.
pub fn hash(path: &Path) -> Result<String, Failure> {
    if !path.is_dir() {
        return Ok(sha256_file(path)?.0);
    }
    let cannot = || format!("{}: cannot list", path.display());
    let mut lines = Vec::new();
    for entry in fs::read_dir(path).context(cannot())? {
        let entry = entry.context(cannot())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            lines.push(format!("{name}\0{}\n", hash(&entry.path())?));
        }
    }
    lines.sort();
    Ok(sha256_bytes(lines.concat().as_bytes()))
}
