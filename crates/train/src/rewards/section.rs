//! `[[rewards]]`: the sections of a recipe, and what is wrong with them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::command::{Command, CommandSection};
use super::exact::{Exact, ExactSection};
use super::json_schema::{JsonSchema, JsonSchemaSection};
use super::length::{Length, LengthSection};
use super::number::{Number, NumberSection};
use super::regex::{Regex, RegexSection};
use super::{OpenModel, Reward, RewardError};

/// A key of the recipe and what is wrong with it.
pub type RewardProblem = (&'static str, String);

/// One section of `[[rewards]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RewardSection {
    /// The completion matches a pattern.
    Regex(RegexSection),
    /// The completion ends with the answer's number.
    Number(NumberSection),
    /// The completion is JSON of a schema.
    JsonSchema(JsonSchemaSection),
    /// The completion is the answer.
    Exact(ExactSection),
    /// The completion is neither too short nor too long.
    Length(LengthSection),
    /// A program says.
    Command(CommandSection),
    /// A reward model says.
    Model(ModelSection),
}

/// `kind = "model"`: the score of a reward model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Its checkpoint folder.
    pub path: PathBuf,
    /// Factor in the sum.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

pub(super) fn default_weight() -> f64 {
    1.0
}

impl RewardSection {
    /// Its `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Regex(_) => "regex",
            Self::Number(_) => "number",
            Self::JsonSchema(_) => "json_schema",
            Self::Exact(_) => "exact",
            Self::Length(_) => "length",
            Self::Command(_) => "command",
            Self::Model(_) => "model",
        }
    }

    /// Its factor in the sum.
    pub fn weight(&self) -> f64 {
        match self {
            Self::Regex(section) => section.weight,
            Self::Number(section) => section.weight,
            Self::JsonSchema(section) => section.weight,
            Self::Exact(section) => section.weight,
            Self::Length(section) => section.weight,
            Self::Command(section) => section.weight,
            Self::Model(section) => section.weight,
        }
    }

    fn check(&self) -> Result<(), RewardProblem> {
        let weight = self.weight();
        ensure(weight.is_finite() && weight != 0.0, "rewards.weight", || {
            format!("{weight}, expected a number other than 0")
        })?;
        match self {
            Self::Regex(section) => section.check(),
            Self::Number(section) => section.check(),
            Self::JsonSchema(section) => is_given(&section.schema, "rewards.schema"),
            Self::Exact(_) => Ok(()),
            Self::Length(section) => section.check(),
            Self::Command(section) => section.check(),
            Self::Model(section) => is_given(&section.path, "rewards.path"),
        }
    }

    pub(super) fn open(&self, open_model: OpenModel<'_>) -> Result<Box<dyn Reward>, RewardError> {
        Ok(match self {
            Self::Regex(section) => Box::new(Regex::new(section)?),
            Self::Number(section) => Box::new(Number::new(section)),
            Self::JsonSchema(section) => Box::new(JsonSchema::open(section)?),
            Self::Exact(section) => Box::new(Exact::new(section)),
            Self::Length(section) => Box::new(Length::new(section)),
            Self::Command(section) => Box::new(Command::start(section)?),
            Self::Model(section) => open_model(&section.path)?,
        })
    }
}

/// Looks for values out of range.
///
/// # Errors
/// A key and what is wrong with it; of several sections the problem says which.
pub fn check(sections: &[RewardSection]) -> Result<(), RewardProblem> {
    for (index, section) in sections.iter().enumerate() {
        let place = |problem| match sections.len() {
            1 => problem,
            _ => format!("reward {} (`{}`): {problem}", index + 1, section.kind()),
        };
        section.check().map_err(|(key, problem)| (key, place(problem)))?;
    }
    Ok(())
}

pub(super) fn ensure(
    ok: bool,
    key: &'static str,
    problem: impl FnOnce() -> String,
) -> Result<(), RewardProblem> {
    if ok { Ok(()) } else { Err((key, problem())) }
}

fn is_given(path: &Path, key: &'static str) -> Result<(), RewardProblem> {
    ensure(!path.as_os_str().is_empty(), key, || "empty, expected a path".into())
}
