//! What was decided: the global flags resolved once, before a command runs.

use crate::args::GlobalArgs;
use crate::failure::Failure;
use crate::output::Output;

/// Decisions that every command shares.
#[derive(Debug)]
pub struct Settings {
    /// Where results and notes go.
    pub output: Output,
}

impl Settings {
    /// Resolves the global flags.
    ///
    /// # Errors
    /// A kernel set that does not exist or that this CPU cannot run.
    pub fn new(args: &GlobalArgs) -> Result<Self, Failure> {
        Ok(Self { output: Output::new(args.json, args.quiet) })
    }
}
