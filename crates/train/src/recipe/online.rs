//! `[rollouts]`, `[ppo]`, `[grpo]` and `[[rewards]]`: learning from what the model itself writes.

use serde::{Deserialize, Serialize};

use super::check::{Problem, ensure};
use super::{Recipe, Stage};

/// `[rollouts]`: how the model is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutSection {
    /// Prompts of one round; all updates until the next round learn from its samples.
    pub prompts: usize,
    /// Samples of each prompt.
    pub group: usize,
    /// Most tokens of a sample.
    pub max_new_tokens: usize,
    /// Divides the scores before a token is drawn.
    pub temperature: f32,
    /// Draw among the likeliest tokens only that make up this much probability.
    pub top_p: f32,
    /// Sequences that are decoded together; changes the speed only.
    pub batch_size: usize,
    /// Held-out prompts that a validation answers, greedily; 0 for none.
    pub validation_prompts: usize,
}

impl Default for RolloutSection {
    fn default() -> Self {
        Self {
            prompts: 8,
            group: 4,
            max_new_tokens: 64,
            temperature: 1.0,
            top_p: 1.0,
            batch_size: 32,
            validation_prompts: 32,
        }
    }
}

/// `[ppo]` (arXiv 1707.06347, as arXiv 1909.08593 uses it).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PpoSection {
    /// Times that the samples of a round are gone through.
    pub epochs: usize,
    /// Parts that they are cut into; each gives one update.
    pub minibatches: usize,
    /// How far the ratio of probabilities may leave 1 with gain.
    pub clip: f64,
    /// How far a value may leave its old one with gain.
    pub value_clip: f64,
    /// Weight of the values' loss.
    pub value_coef: f64,
    /// Discount of later rewards.
    pub gamma: f64,
    /// Of generalised advantages (arXiv 1506.02438).
    pub lambda: f64,
    /// What a nat of divergence from the first policy costs at each token, at the beginning.
    pub kl_coef: f64,
    /// Divergence in nats a token that `kl_coef` is steered to; 0 leaves it as it is.
    pub kl_target: f64,
    /// Samples over which it is steered.
    pub kl_horizon: f64,
}

impl Default for PpoSection {
    fn default() -> Self {
        Self {
            epochs: 2,
            minibatches: 2,
            clip: 0.2,
            value_clip: 0.2,
            value_coef: 0.1,
            gamma: 1.0,
            lambda: 0.95,
            kl_coef: 0.05,
            kl_target: 0.0,
            kl_horizon: 10_000.0,
        }
    }
}

/// What a sample is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// The mean of its group, in units of the group's standard deviation: GRPO (arXiv 2402.03300).
    #[default]
    Group,
    /// The mean of its group, as it is (arXiv 2503.20783).
    GroupMean,
    /// The mean of the others of its group: RLOO (arXiv 2402.14740).
    LeaveOneOut,
}

/// `[grpo]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoSection {
    /// What a sample is compared with.
    pub advantage: Advantage,
    /// How far the ratio of probabilities may leave 1 with gain.
    pub clip: f64,
    /// Weight of the divergence from the first policy; 0 needs no copy of it.
    pub beta: f64,
    /// Times that the samples of a round are gone through.
    pub epochs: usize,
    /// Parts that they are cut into; each gives one update.
    pub minibatches: usize,
}

impl Default for GrpoSection {
    fn default() -> Self {
        Self { advantage: Advantage::Group, clip: 0.2, beta: 0.04, epochs: 1, minibatches: 1 }
    }
}

pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    let stage = recipe.train.stage;
    let on_policy = recipe.distill.as_ref().is_some_and(|distill| distill.on_policy);
    if !(stage.learns_from_rollouts() || stage == Stage::Distill && on_policy) {
        return Ok(());
    }
    ensure(recipe.model.from.is_some(), "model", || {
        format!("expected `from`: stage `{}` begins with a model that answers", stage.name())
    })?;
    ensure(stage == Stage::Distill || !recipe.rewards.is_empty(), "rewards", || {
        "expected at least one [[rewards]] section".into()
    })?;
    crate::rewards::check(&recipe.rewards)?;
    let rollouts = &recipe.rollouts;
    let counts = [
        ("rollouts.prompts", rollouts.prompts),
        ("rollouts.group", rollouts.group),
        ("rollouts.max_new_tokens", rollouts.max_new_tokens),
        ("rollouts.batch_size", rollouts.batch_size),
        ("ppo.epochs", recipe.ppo.epochs),
        ("ppo.minibatches", recipe.ppo.minibatches),
        ("grpo.epochs", recipe.grpo.epochs),
        ("grpo.minibatches", recipe.grpo.minibatches),
    ];
    for (key, count) in counts {
        ensure((1..=1 << 20).contains(&count), key, || format!("{count}, expected 1 to {}", 1 << 20))?;
    }
    ensure(rollouts.temperature > 0.0 && rollouts.temperature <= 100.0, "rollouts.temperature", || {
        format!("{}, expected more than 0 and at most 100", rollouts.temperature)
    })?;
    ensure(rollouts.top_p > 0.0 && rollouts.top_p <= 1.0, "rollouts.top_p", || {
        format!("{}, expected more than 0 and at most 1", rollouts.top_p)
    })?;
    ensure(rollouts.max_new_tokens < recipe.train.sequence_length, "rollouts.max_new_tokens", || {
        format!("{}, expected less than sequence_length, which holds the prompt too", rollouts.max_new_tokens)
    })?;
    ensure(stage != Stage::Ppo || recipe.lora.is_none(), "lora", || {
        "the value head of PPO cannot be trained beside frozen weights; GRPO needs none".into()
    })?;
    ensure(stage != Stage::Grpo || rollouts.group > 1, "rollouts.group", || {
        "1, expected at least 2: samples of one prompt are compared with each other".into()
    })?;
    let samples = rollouts.prompts * rollouts.group;
    let (key, parts) = match stage {
        Stage::Ppo => ("ppo.minibatches", recipe.ppo.minibatches),
        _ => ("grpo.minibatches", recipe.grpo.minibatches),
    };
    ensure(parts <= samples, key, || format!("{parts}, expected at most the {samples} samples of a round"))?;
    numbers(recipe)
}

fn numbers(recipe: &Recipe) -> Result<(), Problem> {
    let (ppo, grpo) = (&recipe.ppo, &recipe.grpo);
    let ranges = [
        ("ppo.clip", ppo.clip, 1.0),
        ("ppo.value_clip", ppo.value_clip, 1e6),
        ("ppo.value_coef", ppo.value_coef, 1e3),
        ("ppo.gamma", ppo.gamma, 1.0),
        ("ppo.lambda", ppo.lambda, 1.0),
        ("ppo.kl_coef", ppo.kl_coef, 1e3),
        ("ppo.kl_target", ppo.kl_target, 1e3),
        ("grpo.clip", grpo.clip, 1.0),
        ("grpo.beta", grpo.beta, 1e3),
    ];
    for (key, value, most) in ranges {
        ensure((0.0..=most).contains(&value), key, || format!("{value}, expected 0 to {most}"))?;
    }
    ensure(ppo.kl_horizon >= 1.0, "ppo.kl_horizon", || format!("{}, expected at least 1", ppo.kl_horizon))
}
