//! What a run learns: one file for each kind, all over the same trainer.
//!
//! An [`Objective`] owns its data. It turns the next of it into gradients, measures held-out data, and says where it
//! stands, so that a resumed run goes on with the same bits.

pub(crate) mod distill;
pub(crate) mod feed;
#[cfg(test)]
mod golden;
pub(crate) mod online;
pub(crate) mod pairs;
mod policy_loss;
mod preference_loss;
mod reference;
pub(crate) mod reward;
pub(crate) mod scorer;
mod supervised;

use std::collections::BTreeMap;

use shakti_data::Position;

use crate::TrainError;
use crate::observer::Observer;
use crate::run_folder::RunFolder;
use crate::trainer::{StepResult, Trainer};
pub(crate) use supervised::Supervised;

/// Named numbers beside the loss, such as `rewards/margins`.
pub type Measures = BTreeMap<String, f64>;

/// What held-out data says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Validation {
    /// Lower is better; best checkpoints and early stops go by it.
    pub loss: f64,
    /// What else was measured.
    pub measures: Measures,
}

/// The data of a run and what is learnt from it.
pub(crate) trait Objective {
    /// Called before the first step of this process, with the weights that the run began with.
    ///
    /// # Errors
    /// What cannot be computed or cached.
    fn begin(
        &mut self,
        _trainer: &Trainer<'_>,
        _folder: &RunFolder,
        _observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        Ok(())
    }

    /// Makes the next step.
    ///
    /// # Errors
    /// As [`Trainer::step`]; the weights are unchanged then.
    fn step(&mut self, trainer: &mut Trainer<'_>) -> Result<(StepResult, Measures), TrainError>;

    /// Measures held-out data, if there is any.
    ///
    /// # Errors
    /// Data that does not fit the model.
    fn validate(&self, trainer: &Trainer<'_>) -> Result<Option<Validation>, TrainError>;

    /// About how long [`Objective::validate`] takes, in seconds, measured as cheaply as it can be.
    ///
    /// # Errors
    /// As [`Objective::validate`].
    fn validation_seconds(&self, trainer: &Trainer<'_>) -> Result<f64, TrainError> {
        let started = std::time::Instant::now();
        self.validate(trainer)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Where the data stands.
    fn position(&self) -> Position;

    /// Goes to a position.
    ///
    /// # Errors
    /// One of other data.
    fn restore(&mut self, position: &Position) -> Result<(), TrainError>;

    /// Whether a checkpoint can be made now: not in the middle of what several steps learn from together.
    fn can_save(&self) -> bool {
        true
    }

    /// Numbers besides the position that decide the steps to come.
    fn state(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Goes back to what [`Objective::state`] said.
    fn set_state(&mut self, _state: &BTreeMap<String, f64>) {}
}
