//! What can go wrong when measuring: a kind, the place, expected against found.

use shakti_engine::EngineError;

/// An error of a measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The model could not run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There is nothing to measure.
    #[error("nothing to measure: {0}")]
    Empty(&'static str),
    /// The windows cannot cover a text.
    #[error(
        "context stride {stride} with a window of {window} tokens: expected 1 <= stride < window <= {longest}"
    )]
    Window {
        /// Tokens of a window.
        window: usize,
        /// New tokens of each window after the first.
        stride: usize,
        /// Tokens the model was made for.
        longest: usize,
    },
}
