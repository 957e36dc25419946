//! The pipeline file: stages in order, each a command of this program with what it reads and writes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shakti_train::Recipe;

use crate::failure::{Failure, FailureExt};

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// A stage must not start what waits for someone to type, or this program's own pipeline.
const REFUSED: [&str; 2] = ["pipeline", "chat"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineFile {
    #[serde(default)]
    stage: Vec<Stage>,
}

/// A stage of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Unique in the file.
    pub name: String,
    /// Arguments of the program.
    pub command: Vec<String>,
    /// Files and folders that are read, besides those that the command and its recipe name.
    #[serde(default)]
    pub inputs: Vec<PathBuf>,
    /// Files and folders that are written.
    pub outputs: Vec<PathBuf>,
}

impl Stage {
    /// Whether it trains, and so can go on from a checkpoint.
    pub fn resumes(&self) -> bool {
        self.command.first().is_some_and(|word| word == "train")
            && self.command.get(1).is_some_and(|word| word == "pretrain" || word == "sft")
    }

    /// The recipe file of a stage that trains, and what the command changes in it.
    fn recipe(&self) -> Option<(PathBuf, Vec<String>)> {
        let mut words = self.command.get(2..).filter(|_| self.resumes())?.iter();
        let (mut file, mut changes) = (None, Vec::new());
        while let Some(word) = words.next() {
            match word.strip_prefix("--set") {
                Some("") => changes.extend(words.next().cloned()),
                Some(change) => changes.extend(change.strip_prefix('=').map(String::from)),
                None if word.ends_with(".toml") => file = Some(PathBuf::from(word)),
                None => {}
            }
        }
        Some((file?, changes))
    }

    /// Files that a recipe names, which the command reads without naming them.
    fn recipe_inputs(&self) -> Result<Vec<PathBuf>, Failure> {
        let Some((file, changes)) = self.recipe() else { return Ok(Vec::new()) };
        let recipe = Recipe::load(&file, &changes)?;
        let data = &recipe.data;
        let sources = data.sources.iter().map(|source| &source.path);
        let named = sources.chain(&data.split_with).chain(&data.decontaminate);
        let named = named.chain(&recipe.model.config).chain(&recipe.model.from).chain(&recipe.tokenizer.path);
        Ok([file.clone()].iter().chain(named).cloned().collect())
    }
}

/// Reads a pipeline file.
///
/// # Errors
/// Names the file, the stage and the key.
pub fn read(path: &Path) -> Result<Vec<Stage>, Failure> {
    let name = path.display();
    let size = std::fs::metadata(path).context(format!("{name}: cannot read"))?.len();
    if size > MAX_BYTES {
        return Err(Failure::bad_input(format!("{name}: {size} bytes, expected at most {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).context(format!("{name}: cannot read"))?;
    let file: PipelineFile = toml::from_str(&text).context(format!("{name}: not a pipeline"))?;
    if file.stage.is_empty() {
        return Err(Failure::bad_input(format!("{name}: no `[[stage]]`, expected at least one")));
    }
    check(&file.stage).map_err(|problem| Failure::bad_input(format!("{name}: {problem}")))?;
    Ok(file.stage)
}

impl Stage {
    /// Everything that it reads, in a fixed order. Files of a recipe that does not exist yet are not known.
    ///
    /// # Errors
    /// A recipe that cannot be used.
    pub fn all_inputs(&self) -> Result<Vec<PathBuf>, Failure> {
        let words = self.command.iter().map(PathBuf::from).filter(|word| word.exists());
        let recipe = match self.recipe() {
            Some((file, _)) if file.exists() => self.recipe_inputs()?,
            _ => Vec::new(),
        };
        let mut all: Vec<PathBuf> = self.inputs.iter().cloned().chain(words).chain(recipe).collect();
        all.retain(|input| {
            !self.outputs.iter().any(|output| input.starts_with(output) || output.starts_with(input))
        });
        all.sort();
        all.dedup();
        Ok(all)
    }
}

fn check(stages: &[Stage]) -> Result<(), String> {
    let mut names = HashSet::new();
    for (index, stage) in stages.iter().enumerate() {
        let name = &stage.name;
        if name.is_empty() || !names.insert(name) {
            return Err(format!("stage `{name}`: `name` is empty or taken, expected a unique one"));
        }
        match stage.command.first() {
            None => return Err(format!("stage `{name}`: `command` is empty")),
            Some(word) if REFUSED.contains(&word.as_str()) => {
                return Err(format!("stage `{name}`: `command` is `{word}`, which cannot be a stage"));
            }
            Some(_) => {}
        }
        if stage.outputs.is_empty() {
            return Err(format!("stage `{name}`: `outputs` is empty, expected what the command writes"));
        }
        let overlap = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
        for output in &stage.outputs {
            let taken = stages[..index].iter().find(|other| other.outputs.iter().any(|o| overlap(o, output)));
            if let Some(other) = taken {
                return Err(format!(
                    "stage `{name}`: `{}` is written by stage `{}` too",
                    output.display(),
                    other.name
                ));
            }
            let input = stage.inputs.iter().find(|input| overlap(input, output));
            if let Some(input) = input {
                return Err(format!(
                    "stage `{name}`: `{}` is among its inputs and its outputs",
                    input.display()
                ));
            }
        }
        for input in &stage.inputs {
            let later =
                stages[index + 1..].iter().find(|other| other.outputs.iter().any(|o| overlap(o, input)));
            if let Some(later) = later {
                return Err(format!(
                    "stage `{name}`: its input `{}` is written by stage `{}`, which comes later",
                    input.display(),
                    later.name
                ));
            }
        }
    }
    Ok(())
}
