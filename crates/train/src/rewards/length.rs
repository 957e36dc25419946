//! `kind = "length"`: 1 for a length in a range, falling to 0 outside of it.

use serde::{Deserialize, Serialize};

use super::section::{RewardProblem, default_weight, ensure};
use super::{RewardError, Rule, Sample};

/// `kind = "length"`: 1 from `min` to `max` tokens, `1 - d / slack` at `d` tokens outside, 0 from `slack` tokens on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthSection {
    /// Fewest tokens, the one that ends a completion included.
    #[serde(default)]
    pub min: usize,
    /// Most tokens.
    pub max: usize,
    /// Tokens outside at which nothing is left.
    #[serde(default)]
    pub slack: usize,
    /// Factor in the sum.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

impl LengthSection {
    pub(super) fn check(&self) -> Result<(), RewardProblem> {
        ensure(self.min <= self.max, "rewards.max", || {
            format!("{}, expected at least min {}", self.max, self.min)
        })
    }
}

/// The rule of a section.
pub(super) struct Length {
    min: usize,
    max: usize,
    slack: usize,
}

impl Length {
    pub fn new(section: &LengthSection) -> Self {
        let LengthSection { min, max, slack, .. } = *section;
        Self { min, max, slack }
    }
}

impl Rule for Length {
    fn score_of(&self, sample: &Sample<'_>) -> Result<f32, RewardError> {
        let tokens = sample.tokens;
        let outside = self.min.saturating_sub(tokens) + tokens.saturating_sub(self.max);
        Ok(match outside {
            0 => 1.0,
            d if d >= self.slack => 0.0,
            d => 1.0 - d as f32 / self.slack as f32,
        })
    }
}
