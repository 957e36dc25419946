//! A whole run: prepare, fix the number of steps, train, validate, save, finish; or go on where one stopped.

use std::path::PathBuf;
use std::sync::Arc;

use shakti_kernels::Cpu;

use crate::TrainError;
use crate::log::LogLine;
use crate::observer::Observer;
use crate::pace::Pace;
use crate::prepare::prepare;
use crate::ranks::Ranks;
use crate::recipe::{Recipe, Stage};
use crate::run_folder::{RunFolder, Start, TOKENIZER_FOLDER, check_start, match_saved, saved_recipe};
use crate::session::Session;
use crate::timing;

/// What a run needs.
pub struct RunSettings<'a> {
    /// Everything that determines the result.
    pub recipe: Recipe,
    /// Kernels and threads.
    pub cpu: &'a Arc<Cpu>,
    /// What to do with what is in the run folder.
    pub start: Start,
    /// Asked between steps; true saves a checkpoint and ends the run.
    pub stop: &'a dyn Fn() -> bool,
    /// How hard the machine is worked.
    pub pace: Pace,
    /// The processes that train together, this one among them; `None` where it is alone.
    pub ranks: Option<&'a dyn Ranks>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps made, those before a resumption included.
    pub step: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Folder of the finished model, or `None` if the run was asked to stop.
    pub model: Option<PathBuf>,
    /// The newest checkpoint, if one was written or resumed from.
    pub checkpoint: Option<PathBuf>,
    /// The last line of the log that this process wrote.
    pub last: Option<LogLine>,
    /// Validation loss of the finished model, where it is not the last line's.
    pub final_validation_loss: Option<f64>,
    /// Seconds that this process trained.
    pub seconds: f64,
}

/// Carries out a recipe of this stage.
///
/// # Errors
/// Everything that can be wrong with recipe, data, model or run folder before anything is written; later: gradients
/// that are ill, or a checkpoint that cannot be written.
pub fn train(
    settings: RunSettings<'_>,
    stage: Stage,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let RunSettings { recipe, cpu, start, stop, pace, ranks } = settings;
    if recipe.train.stage != stage {
        let problem = format!("{}, expected {} for this command", recipe.train.stage.name(), stage.name());
        return Err(TrainError::Data { key: "train.stage".into(), problem });
    }
    let dir = recipe.output.dir.clone();
    check_start(&dir, start)?;
    let (mut recipe, resolved) = match resumable(&recipe, start)? {
        Some(saved) => (saved, true),
        None => (recipe, false),
    };
    let tokenizer = Some(dir.join(TOKENIZER_FOLDER)).filter(|folder| resolved && folder.exists());
    resolve_precision(&mut recipe, cpu);
    let mut prepared = prepare(&recipe, cpu, tokenizer.as_deref(), observer)?;
    if let Some(ranks) = ranks {
        check_shares(&recipe, ranks)?;
        prepared.trainer.join(ranks);
    }
    // Nobody looks for an older run any more when rank 0 begins this one.
    prepared.trainer.agree(0.0);
    let folder = match prepared.trainer.leads() {
        true => RunFolder::open(&dir, start)?,
        false => RunFolder::of_another(&dir),
    };
    prepared.objective.begin(&prepared.trainer, &folder, observer)?;
    if !resolved {
        recipe = timing::fix_steps(&recipe, &mut prepared, &folder, observer)?;
        if prepared.trained_tokenizer {
            folder.write_folder(TOKENIZER_FOLDER, |path| Ok(prepared.files.write(path)?))?;
        }
    }
    if prepared.trainer.leads() {
        prepared.contamination.write(folder.path())?;
    }
    folder.write_recipe(&recipe)?;
    let mut session = Session::new(folder, recipe, prepared, cpu)?;
    if let Start::Resume { allow_other_kernels } = start {
        session.resume(allow_other_kernels, observer)?;
    }
    session.train(&pace, stop, observer)
}

/// Every rank computes as many micro-batches of a step.
fn check_shares(recipe: &Recipe, ranks: &dyn Ranks) -> Result<(), TrainError> {
    if !recipe.train.stage.is_supervised() {
        let problem = format!("`{}` is trained by one process, not by several", recipe.train.stage.name());
        return Err(TrainError::Data { key: "train.stage".into(), problem });
    }
    if recipe.qat.is_some() && recipe.lora.is_some() {
        let problem = "an adapter is trained on a grid by one process, not by several".into();
        return Err(TrainError::Data { key: "qat".into(), problem });
    }
    let micro_batches = recipe.train.batch_tokens / recipe.micro_batch_tokens();
    if micro_batches.is_multiple_of(ranks.size()) {
        return Ok(());
    }
    let problem = format!("{micro_batches} micro-batches a step cannot be shared by {} ranks", ranks.size());
    Err(TrainError::Data { key: "train.micro_batch_tokens".into(), problem })
}

/// The recipe that an earlier start of the same run resolved.
fn resumable(recipe: &Recipe, start: Start) -> Result<Option<Recipe>, TrainError> {
    if !matches!(start, Start::Resume { .. }) {
        return Ok(None);
    }
    let Some(mut saved) = saved_recipe(&recipe.output.dir)? else { return Ok(None) };
    match_saved(&recipe.output.dir, recipe, &saved)?;
    saved.output.clone_from(&recipe.output);
    Ok(Some(saved))
}

/// Replaces `auto` by what this CPU does best.
fn resolve_precision(recipe: &mut Recipe, cpu: &Cpu) {
    recipe.train.precision = recipe.train.precision.precision(cpu).into();
}
