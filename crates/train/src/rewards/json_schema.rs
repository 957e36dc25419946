//! `kind = "json_schema"`: 1 if the completion is JSON that a schema accepts, else 0.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use jsonschema::Validator;
use serde::{Deserialize, Serialize};

use super::section::default_weight;
use super::{RewardError, Rule, Sample};

/// Longest schema that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// `kind = "json_schema"`: 1 if the whole completion is one JSON value that the schema accepts, else 0; white space around
/// it does not count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonSchemaSection {
    /// A file with a JSON schema (draft 4, 6, 7, 2019-09 or 2020-12). References lead to places inside it only.
    pub schema: PathBuf,
    /// Factor in the sum.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

/// The rule of a section.
pub(super) struct JsonSchema {
    validator: Validator,
}

impl JsonSchema {
    pub fn open(section: &JsonSchemaSection) -> Result<Self, RewardError> {
        let path = &section.schema;
        let wrong = |problem: String| RewardError::File { path: path.clone(), problem };
        let mut text = String::new();
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("a schema of more than {MAX_BYTES} bytes")));
        }
        let schema = serde_json::from_str(&text).map_err(|error| wrong(format!("no JSON: {error}")))?;
        let validator = jsonschema::validator_for(&schema);
        Ok(Self { validator: validator.map_err(|error| wrong(format!("no schema: {error}")))? })
    }
}

impl Rule for JsonSchema {
    fn score_of(&self, sample: &Sample<'_>) -> Result<f32, RewardError> {
        let value = serde_json::from_str(sample.completion);
        Ok(f32::from(value.is_ok_and(|value| self.validator.is_valid(&value))))
    }
}
