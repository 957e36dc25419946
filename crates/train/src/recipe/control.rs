//! `[control]`: when a run ends early, which checkpoints stay, which weights it ends with, what it writes besides.

use serde::{Deserialize, Serialize};

/// `[control]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSection {
    /// Validations in a row without a better loss after which the run ends; 0: none do.
    pub patience: u64,
    /// Nats by which a validation loss has to fall below the best so far to count as better.
    pub min_improvement: f64,
    /// Checkpoints with the lowest validation losses that stay besides the newest; each is saved when it is reached.
    pub keep_best: usize,
    /// Which weights the run ends with.
    pub final_model: FinalModel,
    /// Write event files for TensorBoard.
    pub tensorboard: bool,
}

/// Which weights a run ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinalModel {
    /// Those after the last step.
    #[default]
    Last,
    /// Those of the checkpoint with the lowest validation loss.
    Best,
    /// The mean of the best checkpoints, or of the newest ones if none are kept as best.
    Average,
}
