//! The run folder: who may write into it, what a new run replaces, and the resolved recipe a resumed run must match.
//!
//! ```text
//! recipe.toml        the resolved recipe, written before step 1
//! contamination.json what the training records share with test sets and held-out records
//! tokenizer/         the tokenizer, if the run trained one
//! reference.safetensors  what the reference says of preference data
//! teacher.bin        what a teacher says of the data
//! log.jsonl          one line a step
//! checkpoint-<step>/ Hugging Face folder (or PEFT folder of an adapter) and training state
//! model/             Hugging Face folder of the finished model
//! adapter/           or PEFT folder of the finished adapter
//! tensorboard/       event files, if the recipe asks for them
//! ```

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use shakti_checkpoint::Overwrite;

use crate::TrainError;
use crate::checkpoints::{Checkpoints, sync_folder};
use crate::contamination::CONTAMINATION_FILE;
use crate::log::LOG_FILE;
use crate::recipe::{PrecisionChoice, Recipe};
use crate::tensorboard::TENSORBOARD_FOLDER;

/// Name of the resolved recipe.
pub const RECIPE_FILE: &str = "recipe.toml";
/// Name of the finished model's folder.
pub const MODEL_FOLDER: &str = "model";
/// Name of the finished adapter's folder.
pub const ADAPTER_FOLDER: &str = "adapter";
/// Name of the file of what the reference says.
pub(crate) const REFERENCE_FILE: &str = "reference.safetensors";
/// Name of the file of what a teacher says.
pub(crate) const TEACHER_FILE: &str = "teacher.bin";
/// Name of the page about the run, which whoever started it writes.
pub const REPORT_FILE: &str = "report.html";
/// Name of the folder of a tokenizer that the run trained.
pub(crate) const TOKENIZER_FOLDER: &str = "tokenizer";
const LOCK_FILE: &str = ".lock";

/// How a run treats what is in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Refuse a folder that holds anything.
    New,
    /// Delete an older run (nothing else) and begin.
    Replace,
    /// Go on after the newest complete checkpoint; begin if there is none.
    Resume {
        /// Go on even if another kernel set computed the checkpoint: the bits will differ from there on.
        allow_other_kernels: bool,
    },
}

/// A run folder that this process alone writes to, or that another rank writes.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Unlocked by the system when the process ends, however it ends; absent where another rank writes.
    lock: Option<File>,
}

/// Refuses a folder that holds something, before any work is done.
pub(crate) fn check_start(path: &Path, start: Start) -> Result<(), TrainError> {
    let occupied = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(TrainError::file(path, "list")(error)),
    };
    if occupied && start == Start::New {
        return Err(TrainError::OutputExists { path: path.into() });
    }
    if occupied && start == Start::Replace && !path.join(RECIPE_FILE).exists() {
        let problem = format!("holds no `{RECIPE_FILE}`, so it is not a run and is not deleted");
        return Err(TrainError::Checkpoint { path: path.into(), problem });
    }
    Ok(())
}

/// The resolved recipe of an earlier start, if it got that far.
pub(crate) fn saved_recipe(path: &Path) -> Result<Option<Recipe>, TrainError> {
    let file = path.join(RECIPE_FILE);
    if file.exists() { Recipe::load(&file, &[]).map(Some) } else { Ok(None) }
}

/// Fills in what the earlier start decided and refuses any other difference.
pub(crate) fn match_saved(path: &Path, recipe: &Recipe, saved: &Recipe) -> Result<(), TrainError> {
    let mut expected = saved.train.steps.map_or_else(|| recipe.clone(), |steps| fixed(recipe, steps));
    if expected.train.precision == PrecisionChoice::Auto {
        expected.train.precision = saved.train.precision;
    }
    expected.output.dir.clone_from(&saved.output.dir);
    let table = |recipe: &Recipe| toml::Table::try_from(recipe).expect("a recipe is a TOML table");
    let mut differences = Vec::new();
    compare("", &table(&expected), &table(saved), &mut differences);
    if differences.is_empty() {
        return Ok(());
    }
    let problem = format!("the recipe differs from {RECIPE_FILE} there: {}", differences.join(", "));
    Err(TrainError::Resume { path: path.into(), problem })
}

/// `recipe` with the steps that its time budget came to, or with its own.
fn fixed(recipe: &Recipe, saved_steps: u64) -> Recipe {
    recipe.with_steps(recipe.train.steps.unwrap_or(saved_steps))
}

fn compare(prefix: &str, ours: &toml::Table, saved: &toml::Table, differences: &mut Vec<String>) {
    let mut keys: Vec<&String> = ours.keys().chain(saved.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (ours.get(key), saved.get(key)) {
            (Some(toml::Value::Table(ours)), Some(toml::Value::Table(saved))) => {
                compare(&path, ours, saved, differences);
            }
            (ours, saved) if ours != saved => {
                let show =
                    |value: Option<&toml::Value>| value.map_or("absent".into(), toml::Value::to_string);
                differences.push(format!("`{path}` is {}, was {}", show(ours), show(saved)));
            }
            _ => {}
        }
    }
}

impl RunFolder {
    /// Creates the folder if it is not there and locks it; deletes an older run if `start` says so.
    pub(crate) fn open(path: &Path, start: Start) -> Result<Self, TrainError> {
        shakti_checkpoint::files::create_folder(path)?;
        let lock_path = path.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let lock = options.open(&lock_path).map_err(TrainError::file(&lock_path, "open"))?;
        if lock.try_lock().is_err() {
            let problem = "another process trains in this folder".into();
            return Err(TrainError::Resume { path: path.into(), problem });
        }
        let folder = Self { path: path.into(), lock: Some(lock) };
        if start == Start::Replace {
            folder.delete_run()?;
        }
        Ok(folder)
    }

    /// The folder of a run that another rank writes; nothing is written through it.
    pub(crate) fn of_another(path: &Path) -> Self {
        Self { path: path.into(), lock: None }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the resolved recipe.
    pub(crate) fn write_recipe(&self, recipe: &Recipe) -> Result<(), TrainError> {
        if self.lock.is_none() {
            return Ok(());
        }
        let path = self.path.join(RECIPE_FILE);
        Ok(shakti_checkpoint::files::write_file(&path, recipe.to_toml().as_bytes(), Overwrite::Replace)?)
    }

    /// Fills a folder of the run beside its place, adds its checksums and gives it its name, replacing an older one.
    pub(crate) fn write_folder(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let path = self.path.join(name);
        if self.lock.is_none() {
            return Ok(path);
        }
        self.with_temporary(&format!(".{name}.tmp"), |temporary| {
            write(temporary)?;
            shakti_checkpoint::write_manifest(temporary)?;
            remove(&path)?;
            fs::rename(temporary, &path).map_err(TrainError::file(&path, "rename the folder to"))
        })?;
        sync_folder(&self.path)?;
        Ok(path)
    }

    /// Fills a folder and deletes it again, to see how long that takes.
    pub(crate) fn try_folder(
        &self,
        write: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        if self.lock.is_none() {
            return Ok(());
        }
        self.with_temporary(".trial.tmp", write)
    }

    /// Hands out an empty folder and removes what is left of it: a full disk must not stay full of unfinished files.
    fn with_temporary(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let temporary = self.path.join(name);
        remove(&temporary)?;
        shakti_checkpoint::files::create_folder(&temporary)?;
        let filled = fill(&temporary);
        let removed = remove(&temporary);
        filled.and(removed)
    }

    /// Deletes what a run writes; other files stay. The recipe goes last, it marks the folder as a run.
    fn delete_run(&self) -> Result<(), TrainError> {
        let checkpoints = Checkpoints::new(&self.path, 1);
        checkpoints.clean()?;
        for step in checkpoints.steps()? {
            remove(&checkpoints.path(step))?;
        }
        let folders = [MODEL_FOLDER, ADAPTER_FOLDER, TOKENIZER_FOLDER, TENSORBOARD_FOLDER];
        let files = [LOG_FILE, CONTAMINATION_FILE, REFERENCE_FILE, TEACHER_FILE, REPORT_FILE, RECIPE_FILE];
        for name in folders.into_iter().chain(files) {
            remove(&self.path.join(name))?;
        }
        Ok(())
    }
}

/// Removes a file or folder that may not exist.
fn remove(path: &Path) -> Result<(), TrainError> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::file(path, "remove")(error))
        }
        _ => Ok(()),
    }
}
