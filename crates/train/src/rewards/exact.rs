//! `kind = "exact"`: 1 if the completion is the answer, else 0.

use serde::{Deserialize, Serialize};

use super::section::default_weight;
use super::{RewardError, Rule, Sample};

/// `kind = "exact"`: 1 if completion and answer are the same text after what is ignored is gone, else 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactSection {
    /// Compare in lower case.
    pub ignore_case: bool,
    /// White space at the ends does not count, and any other is one space.
    pub ignore_white_space: bool,
    /// Punctuation (Unicode category P) does not count; `3.5` is then `35`.
    pub ignore_punctuation: bool,
    /// Factor in the sum.
    pub weight: f64,
}

impl Default for ExactSection {
    fn default() -> Self {
        let weight = default_weight();
        Self { ignore_case: true, ignore_white_space: true, ignore_punctuation: false, weight }
    }
}

/// The rule of a section.
pub(super) struct Exact {
    section: ExactSection,
    punctuation: Option<regex::Regex>,
}

impl Exact {
    pub fn new(section: &ExactSection) -> Self {
        let punctuation =
            section.ignore_punctuation.then(|| regex::Regex::new(r"\p{P}+").expect("a correct pattern"));
        Self { section: section.clone(), punctuation }
    }

    fn normalised(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(punctuation) = &self.punctuation {
            text = punctuation.replace_all(&text, "").into_owned();
        }
        if self.section.ignore_case {
            text = text.to_lowercase();
        }
        if self.section.ignore_white_space {
            text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        text
    }
}

impl Rule for Exact {
    fn score_of(&self, sample: &Sample<'_>) -> Result<f32, RewardError> {
        Ok(f32::from(self.normalised(sample.completion) == self.normalised(sample.answer)))
    }
}
