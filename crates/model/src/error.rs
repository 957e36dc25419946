//! What can go wrong in this crate: a kind, the place, expected against found.

/// An error of the model crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A configuration key is missing.
    #[error("config: key `{key}` is missing")]
    MissingKey {
        /// The key of `config.json`.
        key: String,
    },
    /// A configuration key has a value that cannot be used.
    #[error("config: key `{key}` is {found}, expected {expected}")]
    BadValue {
        /// The key of `config.json`.
        key: String,
        /// What would be accepted.
        expected: String,
        /// The value that was found.
        found: String,
    },
    /// A configuration key that is neither implemented nor known to be without effect.
    #[error("config: unknown key `{key}` (value {found}); it might change what the model computes")]
    UnknownKey {
        /// The key of `config.json`.
        key: String,
        /// The value that was found.
        found: String,
    },
    /// A reward model where one that writes is needed.
    #[error("this is a reward model: it scores texts and writes none; expected a language model")]
    RewardModel,
    /// The text is not a JSON object.
    #[error("config: {0}")]
    Json(String),
    /// A named preset does not exist.
    #[error("unknown preset `{name}`; presets are {known}")]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// The presets there are.
        known: String,
    },
    /// A tensor has another shape or size than the configuration says.
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    Tensor {
        /// State-dict name.
        name: String,
        /// Shape or size that the configuration asks for.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A setting of an adapter that cannot be used.
    #[error("adapter: `{key}` is {found}, expected {expected}")]
    Lora {
        /// The field of [`crate::LoraConfig`].
        key: String,
        /// What would be accepted.
        expected: String,
        /// The value that was found.
        found: String,
    },
    /// A token id outside the vocabulary.
    #[error("token id {id} at position {index} is outside the vocabulary of {vocab_size}")]
    TokenId {
        /// The offending id.
        id: u32,
        /// Where in the input it stands.
        index: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// More tokens than the cache was made for.
    #[error("{needed} tokens do not fit the context of {max_seq_len}")]
    ContextFull {
        /// Tokens that the sequence would hold.
        needed: usize,
        /// Tokens that the cache can hold.
        max_seq_len: usize,
    },
    /// An error met while reading weights.
    #[error("{0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
}

impl ModelError {
    pub(crate) fn bad(key: &str, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::BadValue { key: key.into(), expected: expected.into(), found: found.to_string() }
    }
}
