//! What a run will take, found by preparing it and making a few of its steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use shakti_checkpoint::files::create_folder;
use shakti_kernels::Cpu;

use crate::TrainError;
use crate::observer::Observer;
use crate::optimizer::Optimizer;
use crate::prepare::{Prepared, prepare};
use crate::recipe::Recipe;
use crate::timing::{self, Measuring};

/// Seconds of steps that are measured where the recipe gives no time budget; never less than a few steps.
const PLAN_SECONDS: f64 = 5.0;

/// A run beforehand. Times are measured with the run's own trainer on its own data; memory of weights, gradients and optimizer
/// follows from their shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Number of weights that are trained.
    pub parameters: u64,
    /// Seconds of reading data, training the tokenizer if the recipe asks for that, and building the model.
    pub preparation_seconds: f64,
    /// Optimizer steps.
    pub steps: u64,
    /// Most input tokens of a step.
    pub batch_tokens: u64,
    /// Input tokens of a step, the mean of those measured: a document that no longer fits waits for the next one.
    #[serde(default)]
    pub tokens_per_step: f64,
    /// Median of the measured steps.
    pub seconds_per_step: f64,
    /// Validations.
    pub validations: u64,
    /// Seconds of one of them.
    pub validation_seconds: f64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Seconds of one of them: those of the model, and as many more for a byte of optimizer.
    pub checkpoint_seconds: f64,
    /// Seconds of writing the finished model.
    pub model_seconds: f64,
    /// Bytes of the weights that are trained, of gradients (the same), and of what the optimizer remembers.
    pub weight_bytes: u64,
    /// As said.
    pub optimizer_bytes: u64,
    /// Joules of a step, where the machine tells.
    pub joules_per_step: Option<f64>,
    /// Most memory that the process held while it made these steps, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// What computes.
    pub kernel_set: String,
    /// How many threads do.
    pub threads: usize,
}

impl Plan {
    /// Input tokens per second of a step.
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens_per_step / self.seconds_per_step
    }

    /// Seconds of the whole run after its preparation: steps, validations and checkpoints.
    pub fn seconds(&self) -> f64 {
        self.steps as f64 * self.seconds_per_step
            + self.validations as f64 * self.validation_seconds
            + self.checkpoints as f64 * self.checkpoint_seconds
            + self.model_seconds
    }
}

/// Prepares the run and makes a few steps, which are discarded; nothing stays on disk. `joules` says what was used so far.
///
/// # Errors
/// As those of a run.
pub fn plan(
    recipe: &Recipe,
    cpu: &Arc<Cpu>,
    joules: &dyn Fn() -> Option<f64>,
    observer: &mut dyn Observer,
) -> Result<Plan, TrainError> {
    let begin = Instant::now();
    let mut prepared = prepare(recipe, cpu, None, observer)?;
    let preparation_seconds = begin.elapsed().as_secs_f64();
    let train = &recipe.train;
    let place = trial_folder(&recipe.output.dir);
    let write = |prepared: &Prepared<'_>| {
        let written =
            create_folder(&place).map_err(TrainError::from).and_then(|()| prepared.write_model(&place));
        let removed = std::fs::remove_dir_all(&place).map_err(TrainError::file(&place, "remove"));
        written.and(removed)
    };
    let seconds = train.minutes.map_or(PLAN_SECONDS, timing::share_of_budget);
    let begin = Instant::now();
    let timings = Measuring { seconds, joules, write: &write }.run(&mut prepared)?;
    let steps = match train.minutes {
        Some(minutes) => timings.steps_within(recipe, 60.0 * minutes - begin.elapsed().as_secs_f64()),
        None => train.steps.unwrap_or(1),
    };
    // All of it, because its batches differ in size and so in the memory they take.
    let begin = Instant::now();
    let validated = prepared.objective.validate(&prepared.trainer)?;
    let validation_seconds = begin.elapsed().as_secs_f64();
    let layout = prepared.trainer.params().layout();
    let parameters = layout.num_elements() as u64;
    let optimizer_bytes = Optimizer::state_bytes(train.optimizer, layout.specs()) as u64;
    let times = |every: u64| if every == 0 { 1 } else { steps.div_ceil(every) };
    let (weight_bytes, model_share) = (4 * parameters, optimizer_bytes as f64 / (4 * parameters) as f64);
    Ok(Plan {
        parameters,
        preparation_seconds,
        steps,
        batch_tokens: train.batch_tokens as u64,
        tokens_per_step: timings.step_tokens,
        seconds_per_step: timings.step,
        validations: if validated.is_none() { 0 } else { times(train.validate_every) },
        validation_seconds,
        checkpoints: times(train.save_every),
        checkpoint_seconds: timings.write * (1.0 + model_share),
        model_seconds: timings.write,
        weight_bytes,
        optimizer_bytes,
        joules_per_step: timings.step_joules,
        peak_memory_bytes: None,
        kernel_set: cpu.kernels.name().into(),
        threads: cpu.pool.threads(),
    })
}

/// A name beside the run folder, on the same disk.
fn trial_folder(run: &Path) -> PathBuf {
    let mut name = run.as_os_str().to_owned();
    name.push(".plan.tmp");
    name.into()
}
