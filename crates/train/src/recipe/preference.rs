//! `[dpo]` and `[reward]`: what is made of preference pairs.

use serde::{Deserialize, Serialize};

use super::check::{Problem, ensure};
use super::{Recipe, Stage};

/// Which loss is taken of a pair of answers, or of a rated one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PreferenceLoss {
    /// DPO (arXiv 2305.18290).
    #[default]
    Sigmoid,
    /// IPO (arXiv 2310.12036), with log-probabilities by token.
    Ipo,
    /// ORPO (arXiv 2403.07691); needs no reference.
    Orpo,
    /// KTO (arXiv 2402.01306), of answers that are rated one by one.
    Kto,
    /// SimPO (arXiv 2405.14734); needs no reference.
    Simpo,
}

impl PreferenceLoss {
    /// Whether log-probabilities of the model that the run begins with are part of it.
    pub fn needs_reference(self) -> bool {
        !matches!(self, Self::Orpo | Self::Simpo)
    }
}

/// `[dpo]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpoSection {
    /// Which loss.
    pub loss: PreferenceLoss,
    /// Strength of the preference against staying near the reference (ORPO: weight of the odds).
    pub beta: f64,
    /// Share of the pairs that are taken to be labelled the wrong way round (arXiv 2310.16944's appendix; `sigmoid` and
    /// `simpo`).
    pub label_smoothing: f64,
    /// SimPO's margin between the two mean log-probabilities, as a share of `1 / beta`.
    pub simpo_gamma: f64,
    /// KTO's weight of good answers.
    pub kto_good_weight: f64,
    /// KTO's weight of bad answers.
    pub kto_bad_weight: f64,
}

impl Default for DpoSection {
    fn default() -> Self {
        Self {
            loss: PreferenceLoss::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            simpo_gamma: 0.5,
            kto_good_weight: 1.0,
            kto_bad_weight: 1.0,
        }
    }
}

/// `[reward]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardTrainingSection {
    /// By how much the chosen answer's score must be above the other one's before the loss is that of a tie.
    pub margin: f64,
}

pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    let train = &recipe.train;
    if !train.stage.learns_from_pairs() {
        return Ok(());
    }
    ensure(recipe.model.from.is_some(), "model", || {
        format!("expected `from`: stage `{}` begins with a model that answers", train.stage.name())
    })?;
    let (micro, longest) = (recipe.micro_batch_tokens(), 2 * train.sequence_length);
    let key =
        if train.micro_batch_tokens.is_some() { "train.micro_batch_tokens" } else { "train.batch_tokens" };
    ensure(micro >= longest, key, || {
        format!("{micro}, expected at least {longest}: both answers of a pair, each of sequence_length")
    })?;
    if train.stage == Stage::Reward {
        let margin = recipe.reward.margin;
        ensure(margin.is_finite() && margin >= 0.0, "reward.margin", || {
            format!("{margin}, expected 0 or more")
        })?;
        return ensure(recipe.lora.is_none(), "lora", || {
            "a reward model's new head cannot be trained beside frozen weights".into()
        });
    }
    let dpo = &recipe.dpo;
    let positive = [
        ("dpo.beta", dpo.beta),
        ("dpo.kto_good_weight", dpo.kto_good_weight),
        ("dpo.kto_bad_weight", dpo.kto_bad_weight),
    ];
    for (key, value) in positive {
        ensure(value > 0.0 && value <= 1e3, key, || {
            format!("{value}, expected more than 0 and at most 1000")
        })?;
    }
    ensure((0.0..0.5).contains(&dpo.label_smoothing), "dpo.label_smoothing", || {
        format!("{}, expected 0 up to but not including 0.5", dpo.label_smoothing)
    })?;
    ensure((0.0..=100.0).contains(&dpo.simpo_gamma), "dpo.simpo_gamma", || {
        format!("{}, expected 0 to 100", dpo.simpo_gamma)
    })
}
