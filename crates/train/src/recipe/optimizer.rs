//! The optimizers that a recipe may name, and their settings.

use serde::{Deserialize, Serialize};

/// What turns gradients into updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW on everything.
    #[default]
    AdamW,
    /// AdamW whose moments take 8 bits each.
    AdamW8,
    /// Muon on the matrices of the layers, AdamW on embedding, head, norms and biases.
    Muon,
}

impl OptimizerKind {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::AdamW => "adamw",
            Self::AdamW8 => "adamw8",
            Self::Muon => "muon",
        }
    }
}

/// `[train.adamw]` (arXiv 1711.05101, the formula of `torch.optim.AdamW`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWSection {
    /// Decay of the running means of gradient and squared gradient.
    pub betas: [f64; 2],
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Decay of matrices (embedding included), relative to the learning rate, whatever the optimizer; norms and biases have
    /// none.
    pub weight_decay: f64,
}

impl Default for AdamWSection {
    fn default() -> Self {
        Self { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1 }
    }
}

/// `[train.muon]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MuonSection {
    /// Decay of the running mean of the gradient.
    pub momentum: f64,
    /// Newton-Schulz iterations of a step.
    pub iterations: u32,
}

impl Default for MuonSection {
    fn default() -> Self {
        Self { momentum: 0.95, iterations: 5 }
    }
}
