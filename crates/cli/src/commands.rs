//! What is done: one file per command, each with its flags and a `run` function.

use crate::args::Command;
use crate::failure::Failure;
use crate::settings::Settings;

/// Runs one command.
///
/// # Errors
/// What the command met, with its exit code.
pub fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {}
}
