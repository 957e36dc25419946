//! What can go wrong while measuring: a kind, the place, the cause.

/// An error of a measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] shakti_engine::EngineError),
    /// A matrix cannot be made.
    #[error(transparent)]
    Block(#[from] shakti_kernels::blocks::BlockError),
    /// The other program could not be started.
    #[error("cannot run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The other program failed.
    #[error("`{command}` ended with {status}; on standard error: {stderr:?}")]
    Status {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said on standard error.
        stderr: String,
    },
    /// The other program's output is not JSON.
    #[error("`{command}`: its output is not JSON")]
    NotJson {
        /// The command line.
        command: String,
        /// The reason.
        source: serde_json::Error,
    },
    /// The other program's output has no rate that is asked for.
    #[error("`{command}`: its output has no number {wanted}")]
    NoRate {
        /// The command line.
        command: String,
        /// What was looked for.
        wanted: String,
    },
}
