//! Rewards that can be checked: what a sample is worth to GRPO, RLOO and PPO, by rules, by a program, by a reward model.
//!
//! A recipe lists them as `[[rewards]]` sections, each with a `kind`, a `weight` and its own keys; a sample's reward is the
//! sum of `weight * score`. [`check`] says what is wrong with sections before anything runs, [`Rewards::open`] makes them
//! ready, [`Rewards::score`] scores. A score that could not be had is an error and never a zero.

mod command;
mod error;
mod exact;
mod json_schema;
mod length;
mod number;
mod regex;
mod section;

use std::path::Path;

pub use command::CommandSection;
pub use error::RewardError;
pub use exact::ExactSection;
pub use json_schema::JsonSchemaSection;
pub use length::LengthSection;
pub use number::NumberSection;
pub use regex::{RegexGroup, RegexSection};
pub use section::{ModelSection, RewardProblem, RewardSection, check};

/// One completion of a prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The prompt as text.
    pub prompt: &'a str,
    /// What the model wrote, without the token that ended it.
    pub completion: &'a str,
    /// The expected answer, as the record has it; empty if it has none.
    pub answer: &'a str,
    /// Whether a token that ends a text or a turn ended it; otherwise the length did.
    pub ended: bool,
    /// Tokens of the completion, the one that ended it included.
    pub tokens: usize,
    /// Ids of prompt and completion.
    pub ids: &'a [u32],
}

/// Gives scores to samples.
pub trait Reward: Send {
    /// A finite score for each sample, in their order.
    ///
    /// # Errors
    /// A score that cannot be had.
    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<f32>, RewardError>;
}

/// A reward that looks at one sample at a time.
trait Rule: Send {
    fn score_of(&self, sample: &Sample<'_>) -> Result<f32, RewardError>;
}

impl<R: Rule> Reward for R {
    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<f32>, RewardError> {
        samples.iter().map(|sample| self.score_of(sample)).collect()
    }
}

/// Makes a reward of a reward model's path.
pub type OpenModel<'a> = &'a mut dyn FnMut(&Path) -> Result<Box<dyn Reward>, RewardError>;

/// The rewards of a recipe, ready to score.
pub struct Rewards {
    parts: Vec<Part>,
}

struct Part {
    kind: &'static str,
    weight: f64,
    reward: Box<dyn Reward>,
}

/// What samples are worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// For each sample the sum of `weight * score`.
    pub total: Vec<f32>,
    /// For each section, in order, its kind and its score of each sample, without its weight.
    pub parts: Vec<(&'static str, Vec<f32>)>,
}

impl Rewards {
    /// Makes the rewards of the sections ready: reads schemas, starts programs. `open_model` makes one of a reward model's
    /// path.
    ///
    /// # Errors
    /// What [`check`] finds, a file that cannot be used, a program that does not start.
    pub fn open(sections: &[RewardSection], open_model: OpenModel<'_>) -> Result<Self, RewardError> {
        check(sections).map_err(|(key, problem)| RewardError::Section { key, problem })?;
        let open = |section: &RewardSection| {
            let reward = section.open(open_model)?;
            Ok(Part { kind: section.kind(), weight: section.weight(), reward })
        };
        Ok(Self { parts: sections.iter().map(open).collect::<Result<_, RewardError>>()? })
    }

    /// Scores a batch.
    ///
    /// # Errors
    /// As [`Reward::score`], of any of them.
    pub fn score(&mut self, samples: &[Sample<'_>]) -> Result<Scores, RewardError> {
        let mut total = vec![0.0; samples.len()];
        let mut parts = Vec::with_capacity(self.parts.len());
        for Part { kind, weight, reward } in &mut self.parts {
            let scores = reward.score(samples)?;
            total.iter_mut().zip(&scores).for_each(|(sum, score)| *sum += *weight * f64::from(*score));
            parts.push((*kind, scores));
        }
        Ok(Scores { total: total.into_iter().map(|sum| sum as f32).collect(), parts })
    }
}

#[cfg(test)]
mod tests;
