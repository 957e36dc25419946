//! `[qat]`: training on the grid of the format that ships.

use serde::{Deserialize, Serialize};
use shakti_quant::FileType;

use super::Recipe;
use super::check::{Problem, ensure};

/// `[qat]`: passes see the weights as the exported file will hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QatSection {
    /// Types of `shakti quantize`, such as `["q4_0"]`; of several each step draws one, so that one run serves all of them.
    pub formats: Vec<String>,
}

impl QatSection {
    /// The types.
    pub(crate) fn file_types(&self) -> Vec<FileType> {
        // Checked when the recipe was read.
        self.formats.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    let Some(qat) = &recipe.qat else { return Ok(()) };
    ensure(!qat.formats.is_empty(), "qat.formats", || "none, expected at least one".into())?;
    for name in &qat.formats {
        let kind: FileType =
            name.parse().map_err(|error: shakti_quant::QuantError| ("qat.formats", error.to_string()))?;
        ensure(kind.base().is_quantized(), "qat.formats", || format!("`{name}` rounds nothing to blocks"))?;
    }
    let several = qat.formats.len() > 1 && recipe.train.stage.learns_from_rollouts();
    ensure(!several, "qat.formats", || {
        "several, expected one: samples and updates of a round must see the same weights".into()
    })?;
    let dora = recipe.lora.as_ref().is_some_and(|lora| lora.dora);
    ensure(!dora, "lora.dora", || "DoRA cannot be trained on a grid".into())
}
