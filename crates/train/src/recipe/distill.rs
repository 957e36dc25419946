//! `[distill]`: learning what a larger model says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::{Problem, ensure};
use super::{Recipe, Stage};

/// Which way the divergence from the teacher is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Divergence {
    /// The student covers what the teacher says.
    #[default]
    Forward,
    /// The student avoids what the teacher does not say.
    Reverse,
}

/// Which tokens are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DistillTargets {
    /// Those of answers; records are conversations.
    #[default]
    Answers,
    /// All.
    All,
}

/// `[distill]` (arXiv 1503.02531; on what the student writes: arXiv 2306.13649).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillSection {
    /// A model with the same vocabulary: a folder or a GGUF file.
    pub teacher: PathBuf,
    /// Tokens of which the teacher's probability is kept at each place; the others count as one.
    #[serde(default = "default_k")]
    pub k: usize,
    /// Which way.
    #[serde(default)]
    pub divergence: Divergence,
    /// Which tokens; not asked where the student writes.
    #[serde(default)]
    pub targets: DistillTargets,
    /// Share of the cross entropy with the tokens of the data; the teacher has the rest.
    #[serde(default)]
    pub hard_share: f64,
    /// Learn on what the student itself answers to the prompts (`[rollouts]`) instead of what stands in the data.
    #[serde(default)]
    pub on_policy: bool,
}

fn default_k() -> usize {
    32
}

pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    let Some(distill) = &recipe.distill else {
        return ensure(recipe.train.stage != Stage::Distill, "distill", || {
            "expected a section with `teacher`".into()
        });
    };
    ensure((1..=4096).contains(&distill.k), "distill.k", || format!("{}, expected 1 to 4096", distill.k))?;
    ensure((0.0..1.0).contains(&distill.hard_share), "distill.hard_share", || {
        format!("{}, expected 0 up to but not including 1", distill.hard_share)
    })?;
    ensure(!distill.on_policy || distill.hard_share == 0.0, "distill.hard_share", || {
        "expected 0: what the student writes is not what it should write".into()
    })
}
