//! What can go wrong in the engine: a kind, the place, the cause.

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file or folder cannot be used.
    #[error("{}: cannot open the {what}", path.display())]
    Open {
        /// What it was to be: `model` or `adapter`.
        what: &'static str,
        /// The file or folder.
        path: std::path::PathBuf,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The weights or a forward pass were refused.
    #[error(transparent)]
    Model(#[from] shakti_model::ModelError),
    /// The prompt alone, or with the tokens asked for, is longer than the context.
    #[error(
        "{what} has {found} tokens and {reserved} more are asked for, but the context holds {max_seq_len}"
    )]
    ContextOverflow {
        /// What is too long, e.g. `the prompt`.
        what: &'static str,
        /// Its tokens.
        found: usize,
        /// Tokens to be generated after it.
        reserved: usize,
        /// Tokens that fit.
        max_seq_len: usize,
    },
    /// One of several prompts cannot be continued.
    #[error("prompt {index}")]
    Prompt {
        /// Which, counted from 0.
        index: usize,
        /// The reason.
        source: Box<EngineError>,
    },
    /// The caller asked to stop.
    #[error("stopped after {finished} of {total} samples")]
    Stopped {
        /// Samples that were complete.
        finished: usize,
        /// Samples asked for.
        total: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty and the model has no token that begins a text")]
    EmptyPrompt,
    /// A sampling option out of its range.
    #[error("sampling: `{option}` is {found}, expected {expected}")]
    Sampling {
        /// Name of the option.
        option: &'static str,
        /// What would be accepted.
        expected: &'static str,
        /// The value given.
        found: String,
    },
    /// The model computed a score that is not a number.
    #[error("the score of token {id} is {value}; the weights are damaged or overflow")]
    NotFinite {
        /// Token id.
        id: usize,
        /// The score.
        value: f32,
    },
    /// The vocabulary has ids that the network does not know.
    #[error("the vocabulary has {ids} ids, but the network knows {known}")]
    Vocabulary {
        /// Ids of the vocabulary.
        ids: usize,
        /// Ids of the network.
        known: usize,
    },
    /// The model has no chat template.
    #[error("the model has no chat template")]
    NoChatTemplate,
    /// The chat template or the tokenizer refused a text.
    #[error("cannot encode the text")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The receiver of the generated text failed.
    #[error("cannot write the generated text")]
    Output(#[source] std::io::Error),
}
