//! `[lora]`: an adapter is trained instead of the weights.

use serde::{Deserialize, Serialize};
use shakti_model::{LORA_TARGETS, LoraConfig, MAX_RANK};

use super::Recipe;
use super::check::{Problem, ensure};

/// `[lora]`: train a low-rank adapter beside the frozen weights of `model.from` (arXiv 2106.09685).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSection {
    /// Rank of the product that is added to each matrix.
    pub rank: usize,
    /// Numerator of its scale, `alpha / rank`.
    pub alpha: f64,
    /// Probability that an element of the adapter's input is dropped in training.
    pub dropout: f64,
    /// Linear layers that are adapted, in every layer.
    pub targets: Vec<String>,
    /// Scale by `alpha / sqrt rank` (arXiv 2312.03732).
    pub rslora: bool,
    /// Train a magnitude for each output too (DoRA, arXiv 2402.09353).
    pub dora: bool,
    /// Seed of the initial A; B begins at zero.
    pub seed: u64,
}

impl Default for LoraSection {
    fn default() -> Self {
        let targets = LORA_TARGETS.map(str::to_owned).to_vec();
        Self { rank: 16, alpha: 32.0, dropout: 0.0, targets, rslora: false, dora: false, seed: 0 }
    }
}

impl LoraSection {
    /// As the model takes it.
    pub fn config(&self) -> LoraConfig {
        let &Self { rank, alpha, dropout, rslora, dora, .. } = self;
        let named = LORA_TARGETS.iter().filter(|target| self.targets.iter().any(|name| name == *target));
        let targets = named.map(|target| (*target).to_owned()).collect();
        LoraConfig { rank, alpha: alpha as f32, dropout: dropout as f32, targets, rslora, dora }
    }
}

pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    let Some(lora) = &recipe.lora else { return Ok(()) };
    ensure(recipe.model.from.is_some(), "lora", || {
        "expected `model.from`: an adapter of random weights learns nothing".into()
    })?;
    ensure((1..=MAX_RANK).contains(&lora.rank), "lora.rank", || {
        format!("{}, expected 1 to {MAX_RANK}", lora.rank)
    })?;
    ensure(lora.alpha > 0.0 && lora.alpha <= 1e6, "lora.alpha", || {
        format!("{}, expected more than 0 and at most 1000000", lora.alpha)
    })?;
    ensure((0.0..1.0).contains(&lora.dropout), "lora.dropout", || {
        format!("{}, expected 0 up to but not including 1", lora.dropout)
    })?;
    let known = LORA_TARGETS.join(", ");
    ensure(!lora.targets.is_empty(), "lora.targets", || format!("none, expected some of {known}"))?;
    match lora.targets.iter().find(|target| !LORA_TARGETS.contains(&target.as_str())) {
        Some(target) => Err(("lora.targets", format!("`{target}`, expected some of {known}"))),
        None => Ok(()),
    }
}
