//! `kind = "regex"`: 1 if the completion matches, else 0.

use serde::{Deserialize, Serialize};

use super::section::{RewardProblem, default_weight};
use super::{RewardError, Rule, Sample};

/// `kind = "regex"`: 1 if `pattern` matches anywhere in the completion, else 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexSection {
    /// A regular expression in the syntax of the `regex` crate (no look-around, no back-references; linear time).
    pub pattern: String,
    /// A group of the pattern whose text, in the first match, must be the answer; white space around either does not
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<RegexGroup>,
    /// Factor in the sum.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

/// A group of a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RegexGroup {
    /// By number; 0 is the whole match.
    Index(usize),
    /// By name.
    Name(String),
}

impl RegexSection {
    pub(super) fn check(&self) -> Result<(), RewardProblem> {
        self.compile().map(drop)
    }

    fn compile(&self) -> Result<regex::Regex, RewardProblem> {
        let pattern = regex::Regex::new(&self.pattern).map_err(|error| {
            // The last line of a message says what is wrong; those before it draw the place.
            let message = error.to_string();
            let last = message.lines().next_back().unwrap_or_default();
            ("rewards.pattern", format!("{:?}: {}", self.pattern, last.trim_start_matches("error: ")))
        })?;
        let missing = match &self.group {
            Some(RegexGroup::Index(index)) if *index >= pattern.captures_len() => index.to_string(),
            Some(RegexGroup::Name(name)) if pattern.capture_names().flatten().all(|known| known != name) => {
                format!("`{name}`")
            }
            _ => return Ok(pattern),
        };
        Err(("rewards.group", format!("{:?} has no group {missing}", self.pattern)))
    }
}

/// The rule of a section.
pub(super) struct Regex {
    pattern: regex::Regex,
    group: Option<RegexGroup>,
}

impl Regex {
    pub fn new(section: &RegexSection) -> Result<Self, RewardError> {
        let pattern = section.compile().map_err(|(key, problem)| RewardError::Section { key, problem })?;
        Ok(Self { pattern, group: section.group.clone() })
    }
}

impl Rule for Regex {
    fn score_of(&self, sample: &Sample<'_>) -> Result<f32, RewardError> {
        let captures = || self.pattern.captures(sample.completion);
        let found = match &self.group {
            None => return Ok(f32::from(self.pattern.is_match(sample.completion))),
            Some(RegexGroup::Index(index)) => captures().and_then(|found| found.get(*index)),
            Some(RegexGroup::Name(name)) => captures().and_then(|found| found.name(name)),
        };
        Ok(f32::from(found.is_some_and(|found| found.as_str().trim() == sample.answer.trim())))
    }
}
