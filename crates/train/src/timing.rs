//! A time budget turned into a number of steps: a few steps are made, timed and discarded.

use std::time::Instant;

use crate::TrainError;
use crate::observer::{Event, Observer};
use crate::prepare::Prepared;
use crate::recipe::Recipe;
use crate::run_folder::RunFolder;
use crate::schedule::{Schedule, ScheduleKind};

/// Steps timed after one that only warms up, at least.
const TIMED_STEPS: usize = 3;
/// More are timed until this share of the budget is used.
const TIMING_SHARE: f64 = 0.02;
/// The discarded steps change weights a little; any schedule does.
const DISCARDED: Schedule =
    Schedule { kind: ScheduleKind::Linear, steps: 1000, warmup_steps: 1000, decay_steps: 1, min_share: 1.0 };

/// A checkpoint holds the weights and the two running means.
const CHECKPOINT_MODELS: f64 = 3.0;

/// What steps, validations and checkpoints take, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    /// Median of the timed steps.
    pub step: f64,
    /// Mean input tokens of a timed step: a document that no longer fits waits for the next batch, so they are fewer than the
    /// recipe's.
    pub step_tokens: f64,
    /// Mean energy of a timed step in joules, where the machine tells.
    pub step_joules: Option<f64>,
    /// A validation.
    pub validation: f64,
    /// Writing the model.
    pub write: f64,
}

/// What was found of a few steps: median seconds, mean tokens, mean joules.
struct Steps {
    seconds: f64,
    tokens: f64,
    joules: Option<f64>,
}

/// How steps are timed.
pub(crate) struct Measuring<'a> {
    /// Seconds of steps, at least; never less than a few steps.
    pub seconds: f64,
    /// Joules used so far, where the machine tells.
    pub joules: &'a dyn Fn() -> Option<f64>,
    /// Writes the model somewhere and deletes it again.
    pub write: &'a dyn Fn(&Prepared<'_>) -> Result<(), TrainError>,
}

impl Measuring<'_> {
    /// Makes a few steps and puts the run back to where it was.
    pub fn run(&self, prepared: &mut Prepared<'_>) -> Result<Timings, TrainError> {
        let position = prepared.objective.position();
        let state = prepared.objective.state();
        let params = prepared.trainer.params().clone();
        prepared.trainer.set_schedule(DISCARDED);
        let steps = self.steps(prepared)?;
        let validation = prepared.objective.validation_seconds(&prepared.trainer)?;
        let begin = Instant::now();
        (self.write)(prepared)?;
        let write = begin.elapsed().as_secs_f64();
        prepared.trainer.reset(&params)?;
        prepared.objective.restore(&position)?;
        prepared.objective.set_state(&state);
        let Steps { seconds: step, tokens: step_tokens, joules: step_joules } = steps;
        Ok(Timings { step, step_tokens, step_joules, validation, write })
    }

    fn steps(&self, prepared: &mut Prepared<'_>) -> Result<Steps, TrainError> {
        let (mut begin, mut joules) = (Instant::now(), None);
        let (mut seconds, mut tokens) = (Vec::new(), 0_u64);
        // Ranks time the same number of steps.
        while seconds.len() < 1 + TIMED_STEPS
            || prepared.trainer.agree(begin.elapsed().as_secs_f64()) < self.seconds
        {
            let started = Instant::now();
            let (made, _) = prepared.objective.step(&mut prepared.trainer)?;
            if seconds.is_empty() {
                (begin, joules) = (Instant::now(), (self.joules)());
            } else {
                tokens += made.tokens;
            }
            seconds.push(started.elapsed().as_secs_f64());
        }
        let timed = &mut seconds[1..];
        timed.sort_by(f64::total_cmp);
        let joules = (self.joules)().zip(joules).map(|(after, before)| (after - before) / timed.len() as f64);
        Ok(Steps { seconds: timed[timed.len() / 2], tokens: tokens as f64 / timed.len() as f64, joules })
    }
}

impl Timings {
    /// Most steps that fit into so many seconds with their validations, checkpoints and the finished model.
    pub fn steps_within(&self, recipe: &Recipe, seconds: f64) -> u64 {
        let train = &recipe.train;
        // At the end one of each comes besides the finished model.
        let save = CHECKPOINT_MODELS * self.write;
        let left = seconds - self.validation - save - self.write;
        steps_within(left, self.step, &[(self.validation, train.validate_every), (save, train.save_every)])
    }
}

/// Seconds of steps that are timed for a budget of so many minutes.
pub(crate) fn share_of_budget(minutes: f64) -> f64 {
    60.0 * minutes * TIMING_SHARE
}

/// The recipe with its number of steps fixed, by its own word or by timing.
pub(crate) fn fix_steps(
    recipe: &Recipe,
    prepared: &mut Prepared<'_>,
    folder: &RunFolder,
    observer: &mut dyn Observer,
) -> Result<Recipe, TrainError> {
    let Some(minutes) = recipe.train.minutes else {
        return Ok(recipe.with_steps(recipe.train.steps.unwrap_or(1)));
    };
    let started = Instant::now();
    let write = |prepared: &Prepared<'_>| folder.try_folder(|path| prepared.write_model(path));
    let measuring = Measuring { seconds: share_of_budget(minutes), joules: &|| None, write: &write };
    let timings = measuring.run(prepared)?;
    let steps = timings.steps_within(recipe, 60.0 * minutes - started.elapsed().as_secs_f64());
    let steps = prepared.trainer.agree(steps as f64) as u64;
    observer.event(&Event::Timed { seconds_per_step: timings.step, steps });
    Ok(recipe.with_steps(steps))
}

/// Most steps that `seconds` allow, at least 1, if besides each step some seconds pass every so many steps (0: never).
fn steps_within(seconds: f64, per_step: f64, besides: &[(f64, u64)]) -> u64 {
    let shared =
        besides.iter().filter(|(_, every)| *every > 0).map(|(seconds, every)| seconds / *every as f64);
    ((seconds / (per_step + shared.sum::<f64>())) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validations_and_checkpoints_take_their_share_of_the_budget() {
        assert_eq!(steps_within(100.0, 0.5, &[(3.0, 0), (0.0, 1)]), 200);
        assert_eq!(steps_within(100.0, 0.5, &[(5.0, 10)]), 100);
        assert_eq!(steps_within(100.0, 0.5, &[(5.0, 10), (20.0, 20)]), 50);
        assert_eq!(steps_within(-3.0, 0.5, &[]), 1);
    }
}
