//! The recipe: a TOML file that fully determines a run.
//!
//! Every key is known or refused with file, line and name; `--set key.sub=value` replaces values before the recipe
//! is read (and drops a key that excludes the new one: `minutes` takes the place of `steps`). Paths are relative to the working directory. What a run decided (steps of a time budget, precision
//! `auto`) is written into the resolved recipe in the run folder before step 1; that file is a recipe too.

mod check;
mod control;
mod dial;
mod distill;
mod lora;
mod online;
mod optimizer;
mod parse;
mod preference;
mod qat;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shakti_kernels::{Cpu, Precision};

use crate::rewards::RewardSection;
use crate::schedule::{Schedule, ScheduleKind};
pub use control::{ControlSection, FinalModel};
pub use distill::{DistillSection, DistillTargets, Divergence};
pub use lora::LoraSection;
pub use online::{Advantage, GrpoSection, PpoSection, RolloutSection};
pub use optimizer::{AdamWSection, MuonSection, OptimizerKind};
pub use preference::{DpoSection, PreferenceLoss, RewardTrainingSection};
pub use qat::QatSection;

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is trained.
    pub model: ModelSection,
    /// How text becomes ids.
    #[serde(default)]
    pub tokenizer: TokenizerSection,
    /// What it is trained on.
    pub data: DataSection,
    /// How.
    pub train: TrainSection,
    /// An adapter, if that is what is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSection>,
    /// Preferences.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dpo: DpoSection,
    /// A reward model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reward: RewardTrainingSection,
    /// How the model is sampled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollouts: RolloutSection,
    /// What samples are worth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewards: Vec<RewardSection>,
    /// PPO.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ppo: PpoSection,
    /// GRPO and RLOO.
    #[serde(default, skip_serializing_if = "is_default")]
    pub grpo: GrpoSection,
    /// A teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillSection>,
    /// The formats whose grids are trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qat: Option<QatSection>,
    /// When it ends early, which checkpoints stay, what it ends with.
    #[serde(default)]
    pub control: ControlSection,
    /// Where the run is written.
    pub output: OutputSection,
}

/// `[model]`: exactly one of `preset`, `config`, `from` and `size`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Name of a preset, trained from random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A `config.json`, trained from random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// A checkpoint folder or GGUF file whose weights (not optimizer) the run starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Number of parameters, such as `30m`: shape, learning rate, batch and steps follow where they are not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ModelSize>,
    /// Keys of `config.json` to replace, such as `hidden_dropout = 0.1`.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub overrides: toml::Table,
}

/// `model.size`: text with a unit (`30m`), or a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModelSize {
    /// Such as `30m` or `1.5b`.
    Text(String),
    /// A number of parameters.
    Number(u64),
}

/// `[tokenizer]`: at most one of `path` and `train`; neither takes the tokenizer of `model.from`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSection {
    /// A folder that holds `tokenizer.json`, or that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Train one on the training split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TokenizerTraining>,
}

/// `[tokenizer.train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerTraining {
    /// Number of ids, special tokens and bytes included.
    pub vocab_size: usize,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// Seed of the split by source document. Recipes of one chain of stages must agree on it.
    #[serde(default)]
    pub split_seed: u64,
    /// Share of the documents held out for validation.
    #[serde(default = "default_share")]
    pub validation_share: f64,
    /// Share of the documents held out for the test.
    #[serde(default = "default_share")]
    pub test_share: f64,
    /// JSON fields that name the document a record comes from. Absent: those that the data crate knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_fields: Option<Vec<String>>,
    /// Files that take part in duplicate removal and splits only, so that no stage trains on what another holds out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split_with: Vec<PathBuf>,
    /// Test sets: training records that hold a part of one are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decontaminate: Vec<PathBuf>,
    /// What is trained on.
    pub sources: Vec<DataSource>,
}

/// One entry of `data.sources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// A file of text or records.
    pub path: PathBuf,
    /// Share of the tokens, relative to the other sources. Absent: as many as it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// What the records are and where the loss counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Texts, loss on every token.
    Pretrain,
    /// Conversations, loss on answers only.
    Sft,
    /// Pairs of a chosen and a rejected answer, or rated answers: DPO and its kin.
    Dpo,
    /// Pairs: a reward model.
    Reward,
    /// Prompts that the model answers itself: PPO.
    Ppo,
    /// The same: GRPO and RLOO.
    Grpo,
    /// What a teacher says.
    Distill,
}

impl Stage {
    /// The name in recipes, and of the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Sft => "sft",
            Self::Dpo => "dpo",
            Self::Reward => "reward",
            Self::Ppo => "ppo",
            Self::Grpo => "grpo",
            Self::Distill => "distill",
        }
    }

    /// Whether its records are preference pairs or rated answers.
    pub fn learns_from_pairs(self) -> bool {
        matches!(self, Self::Dpo | Self::Reward)
    }

    /// Whether it learns from what the model itself writes.
    pub fn learns_from_rollouts(self) -> bool {
        matches!(self, Self::Ppo | Self::Grpo)
    }

    /// Whether its gradients are those of next tokens, which several processes can share.
    pub fn is_supervised(self) -> bool {
        matches!(self, Self::Pretrain | Self::Sft)
    }
}

fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

/// Arithmetic of dense matrix products; sums, weights and optimizer are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// What the CPU multiplies fastest.
    #[default]
    Auto,
    /// f32 throughout.
    F32,
    /// Inputs rounded to bf16, sums in f32.
    Bf16,
    /// Inputs rounded to 13-bit integers with a scale for 128 of them.
    Int16,
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::Int16 => Self::Int16,
        }
    }
}

impl PrecisionChoice {
    /// What is computed with on this CPU.
    pub fn precision(self, cpu: &Cpu) -> Precision {
        match self {
            Self::Auto => cpu.kernels.fastest_precision(),
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::Int16 => Precision::Int16,
        }
    }

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int16 => "int16",
        }
    }
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// What is learnt.
    pub stage: Stage,
    /// Most tokens of one document that attend to each other; longer documents are cut.
    pub sequence_length: usize,
    /// Tokens of one optimizer step.
    pub batch_tokens: usize,
    /// Tokens of one forward and backward pass; divides `batch_tokens`. Absent: all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<usize>,
    /// Optimizer steps of the run; or give `minutes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Time budget: a few discarded steps are timed, then `steps` is fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Largest learning rate.
    pub peak_learning_rate: f64,
    /// Shape of the learning rate after the warm-up.
    #[serde(default = "default_schedule")]
    pub schedule: ScheduleKind,
    /// Steps until the peak; or give `warmup_share`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Warm-up as a share of the steps; 0.02 if neither is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_share: Option<f64>,
    /// Learning rate of the last step as a share of the peak.
    #[serde(default = "default_min_share")]
    pub min_learning_rate_share: f64,
    /// Share of the steps over which `wsd` decays.
    #[serde(default = "default_decay_share")]
    pub decay_share: f64,
    /// Gradients with a larger norm are scaled down to it; 0 never does.
    #[serde(default = "default_clip")]
    pub clip_grad_norm: f64,
    /// Stops the run when the gradient norm is this many times its running mean; 0 never does.
    #[serde(default = "default_explosion")]
    pub max_grad_norm_ratio: f64,
    /// Stops the run when a parameter's gradient is exactly 0 for this many steps in a row; 0 never does.
    #[serde(default = "default_dead")]
    pub dead_gradient_steps: u64,
    /// Arithmetic of matrix products.
    #[serde(default)]
    pub precision: PrecisionChoice,
    /// Keep only the input of each layer and compute the rest again in the backward pass: less memory, a third more
    /// arithmetic, the same bits.
    #[serde(default)]
    pub recompute: bool,
    /// Seed of initial weights, data order and dropout.
    #[serde(default)]
    pub seed: u64,
    /// Steps between validations; 0 validates at the end only.
    #[serde(default)]
    pub validate_every: u64,
    /// Most tokens of one validation; 0 never validates.
    #[serde(default = "default_validation_tokens")]
    pub validation_tokens: usize,
    /// Steps between checkpoints; 0 saves at the end only.
    #[serde(default)]
    pub save_every: u64,
    /// Checkpoints that stay; older ones are deleted.
    #[serde(default = "default_keep")]
    pub keep_checkpoints: usize,
    /// What turns gradients into updates.
    #[serde(default)]
    pub optimizer: OptimizerKind,
    /// AdamW, and the weight decay of all.
    #[serde(default)]
    pub adamw: AdamWSection,
    /// Muon.
    #[serde(default)]
    pub muon: MuonSection,
}

/// `[output]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSection {
    /// The run folder.
    pub dir: PathBuf,
}

fn default_share() -> f64 {
    0.05
}

fn default_schedule() -> ScheduleKind {
    ScheduleKind::Cosine
}

fn default_min_share() -> f64 {
    0.1
}

fn default_decay_share() -> f64 {
    0.2
}

fn default_clip() -> f64 {
    1.0
}

fn default_explosion() -> f64 {
    1000.0
}

fn default_dead() -> u64 {
    50
}

fn default_validation_tokens() -> usize {
    32_768
}

fn default_keep() -> usize {
    2
}

/// Warm-up as a share of the steps where the recipe says nothing.
const DEFAULT_WARMUP_SHARE: f64 = 0.02;

impl Recipe {
    /// The recipe as TOML, defaults written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe has string keys and no values that TOML lacks")
    }

    /// The same recipe with the number of steps fixed; `minutes` and `warmup_share` become step counts.
    #[must_use]
    pub fn with_steps(&self, steps: u64) -> Self {
        let mut recipe = self.clone();
        let train = &mut recipe.train;
        let share = train.warmup_share.unwrap_or(DEFAULT_WARMUP_SHARE);
        let warmup = train.warmup_steps.unwrap_or_else(|| (share * steps as f64).round() as u64);
        train.warmup_steps = Some(warmup.min(steps));
        train.warmup_share = None;
        train.steps = Some(steps);
        train.minutes = None;
        recipe
    }

    /// SHA-256 of everything but the place of the run folder, which may move.
    pub(crate) fn sha256(&self) -> String {
        let mut recipe = self.clone();
        recipe.output.dir = PathBuf::new();
        shakti_checkpoint::files::sha256_bytes(recipe.to_toml().as_bytes())
    }

    /// Tokens of one forward and backward pass.
    pub fn micro_batch_tokens(&self) -> usize {
        self.train.micro_batch_tokens.unwrap_or(self.train.batch_tokens)
    }
}

impl TrainSection {
    /// The learning-rate schedule over `steps` steps with a warm-up of `warmup_steps`.
    pub(crate) fn schedule(&self, steps: u64, warmup_steps: u64) -> Schedule {
        let decay_steps = (self.decay_share * steps as f64).round() as u64;
        Schedule {
            kind: self.schedule,
            steps,
            warmup_steps,
            decay_steps: decay_steps.clamp(1, (steps - warmup_steps).max(1)),
            min_share: self.min_learning_rate_share,
        }
    }
}
