//! What a run reports while it works; this crate itself prints nothing.

use std::path::Path;

use shakti_data::{CorpusReport, TokenizeReport};

use crate::contamination::Contamination;

use crate::log::LogLine;

/// Receives what happens in a run.
pub trait Observer {
    /// Called on the training thread; the run waits until it returns.
    fn event(&mut self, event: &Event<'_>);
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The files were read, duplicates dropped, documents split.
    Scanned(&'a CorpusReport),
    /// Overlap of the training records with test sets and held-out records was measured.
    Contamination(&'a Contamination),
    /// A tokenizer was trained.
    TokenizerTrained {
        /// Number of ids.
        vocab_size: usize,
    },
    /// A source was turned into tokens.
    Tokenized {
        /// Path of the source.
        source: &'a str,
        /// Its training split.
        train: TokenizeReport,
        /// Its validation split.
        validation: TokenizeReport,
    },
    /// The model is ready.
    Model {
        /// Number of weights.
        parameters: usize,
        /// How many numbers are trained: all of those, or the adapter's.
        trained: usize,
        /// Kernel set that computes.
        kernel_set: &'a str,
        /// `f32`, `bf16` or `int16`.
        precision: &'a str,
    },
    /// The reference's log-probabilities are about to be computed.
    Reference,
    /// Rows of preference data that nothing can be learnt from were left out.
    LeftOut(&'a shakti_data::LeftOut),
    /// A time budget was turned into a number of steps.
    Timed {
        /// Median of the discarded steps, in seconds.
        seconds_per_step: f64,
        /// Steps of the run.
        steps: u64,
    },
    /// The run goes on after a checkpoint.
    Resumed {
        /// Steps that are done.
        step: u64,
        /// The checkpoint.
        path: &'a Path,
    },
    /// Something a person should know; the run goes on.
    Warning(&'a str),
    /// A step was made.
    Step {
        /// Its line in the log.
        line: &'a LogLine,
        /// Steps of the run.
        steps: u64,
        /// Seconds that the remaining steps will take, by the mean of recent ones.
        seconds_left: f64,
    },
    /// Validations no longer improve: the run ends.
    Exhausted {
        /// Steps that are done.
        step: u64,
        /// Step and loss of the best validation.
        best: (u64, f64),
    },
    /// The weights that the run ends with are not those after its last step.
    Final {
        /// Steps whose checkpoints they are, or are the mean of.
        steps: &'a [u64],
        /// Their validation loss, in nats.
        validation_loss: Option<f64>,
    },
    /// Nothing is computed until the machine is on mains again; what was done is saved.
    Paused {
        /// Steps that are done.
        step: u64,
    },
    /// Computing goes on after a pause.
    Continued {
        /// Seconds that the pause took.
        seconds: f64,
    },
    /// A checkpoint is complete.
    Saved {
        /// Steps that are done.
        step: u64,
        /// Its folder.
        path: &'a Path,
    },
}

/// Ignores everything.
impl Observer for () {
    fn event(&mut self, _event: &Event<'_>) {}
}
