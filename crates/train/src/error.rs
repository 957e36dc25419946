//! What can go wrong in training: a kind, the place, the cause.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the train crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A recipe that cannot be used.
    #[error("{place}: {}{problem}", in_key(.key))]
    Recipe {
        /// File and line, or the override that was typed.
        place: String,
        /// Path of the key, such as `train.steps`; empty where the text is not TOML.
        key: String,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// The run folder holds a run already.
    #[error("{}: output exists", path.display())]
    OutputExists {
        /// The run folder.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}", path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A checkpoint that is not what was written.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A run that cannot be continued as asked.
    #[error("{}: cannot resume: {problem}", path.display())]
    Resume {
        /// The run folder.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// Data and recipe do not fit together.
    #[error("{key}: {problem}")]
    Data {
        /// Key of the recipe.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The loss is not a number.
    #[error("step {step}: the loss is {loss}{}", in_tensor(.tensor))]
    NonFiniteLoss {
        /// The step, counted from 1.
        step: u64,
        /// The loss in nats.
        loss: f64,
        /// The first parameter that holds a value that is not finite, if any does.
        tensor: Option<String>,
    },
    /// A gradient is not a number.
    #[error("step {step}: the gradient of `{tensor}` holds {value}")]
    NonFiniteGradient {
        /// The step, counted from 1.
        step: u64,
        /// State-dict name.
        tensor: String,
        /// The first value that is not finite.
        value: f32,
    },
    /// The gradient norm is far above what it used to be.
    #[error(
        "step {step}: the gradient norm is {norm:.4e}, more than {limit} times its recent mean {usual:.4e}; the largest part is `{tensor}` with {tensor_norm:.4e}"
    )]
    ExplodingGradient {
        /// The step, counted from 1.
        step: u64,
        /// Norm of the whole gradient.
        norm: f64,
        /// Its running mean before this step.
        usual: f64,
        /// How many times the running mean is accepted.
        limit: f64,
        /// The parameter with the largest norm.
        tensor: String,
        /// The norm of that parameter's gradient.
        tensor_norm: f64,
    },
    /// A parameter gets no gradient.
    #[error(
        "step {step}: the gradient of `{tensor}` has been exactly 0 for {steps} steps; nothing trains it"
    )]
    DeadGradient {
        /// The step, counted from 1.
        step: u64,
        /// State-dict name.
        tensor: String,
        /// Number of steps in a row.
        steps: u64,
    },
    /// Weights that cannot be put on the grid of a format.
    #[error("tensor `{tensor}`")]
    Grid {
        /// State-dict name.
        tensor: String,
        /// The reason.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// From quantization.
    #[error(transparent)]
    Quant(#[from] shakti_quant::QuantError),
    /// From rewards.
    #[error(transparent)]
    Reward(#[from] crate::rewards::RewardError),
    /// From rollouts.
    #[error(transparent)]
    Engine(#[from] shakti_engine::EngineError),
    /// From the model.
    #[error(transparent)]
    Model(#[from] shakti_model::ModelError),
    /// From data files.
    #[error(transparent)]
    DataFile(#[from] shakti_data::DataError),
    /// From the tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] shakti_tokenizer::TokenizerError),
    /// From checkpoint folders.
    #[error(transparent)]
    Folder(#[from] shakti_checkpoint::CheckpointError),
}

impl TrainError {
    pub(crate) fn file(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::File { path, action, cause }
    }

    pub(crate) fn grid(tensor: &str, cause: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::Grid { tensor: tensor.into(), cause }
    }

    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), problem: problem.into() }
    }
}

fn in_key(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

fn in_tensor(tensor: &Option<String>) -> String {
    tensor
        .as_ref()
        .map_or_else(String::new, |name| format!(", and `{name}` holds a value that is not finite"))
}
