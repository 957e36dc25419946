//! Why a command ended early: the chain of causes, hints on lines of their own, and the exit code.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done (a reader that closed the pipe early counts as done) |
//! | 1 | internal failure: a full disk, a device error, a run that diverged, a bug |
//! | 2 | bad input or usage; nothing was written |
//! | 130 | interrupted |

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use shakti_checkpoint::CheckpointError;
use shakti_quant::QuantError;

/// How the process ends when a command fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something other than the input failed.
    Internal = 1,
    /// The input or the usage is wrong.
    BadInput = 2,
    /// The user asked to stop.
    Interrupted = 130,
}

/// The end of a command that did not succeed.
///
/// Any error converts into one with `?`; its exit code is [`Exit::BadInput`] unless the chain of causes ends in an
/// input/output error that the input cannot have caused, such as a full disk.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    exit: Exit,
    hints: Vec<String>,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let exit =
            if io_kind(&error).is_none_or(is_about_the_input) { Exit::BadInput } else { Exit::Internal };
        let hints = error.chain().find_map(known_hint).into_iter().map(str::to_owned).collect();
        Self { error, exit, hints }
    }
}

/// The kind of the input/output error among the causes.
fn io_kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

/// What to do about errors that mean the same in every command.
fn known_hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match (cause.downcast_ref::<CheckpointError>(), cause.downcast_ref::<QuantError>()) {
        (Some(CheckpointError::AlreadyExists { .. }), _) => {
            Some("choose another output, or replace it with --force")
        }
        (_, Some(QuantError::AlreadyQuantized { .. })) => Some("--allow-requantize accepts it"),
        _ if cause.downcast_ref::<io::Error>().is_some_and(|error| is_full_disk(error.kind())) => {
            Some("free some space or choose another place; the older files there are whole")
        }
        _ => None,
    }
}

fn is_full_disk(kind: ErrorKind) -> bool {
    [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge].contains(&kind)
}

fn is_about_the_input(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    [
        K::NotFound,
        K::PermissionDenied,
        K::AlreadyExists,
        K::InvalidInput,
        K::InvalidData,
        K::UnexpectedEof,
        K::IsADirectory,
        K::NotADirectory,
        K::InvalidFilename,
    ]
    .contains(&kind)
}

impl Failure {
    /// Wrong input or usage.
    pub fn bad_input(message: impl Display) -> Self {
        Self { error: anyhow::anyhow!("{message}"), exit: Exit::BadInput, hints: Vec::new() }
    }

    /// A failure that the input did not cause.
    pub fn internal(message: impl Display) -> Self {
        Self { error: anyhow::anyhow!("{message}"), exit: Exit::Internal, hints: Vec::new() }
    }

    /// The user asked to stop; `what` says what was kept.
    pub fn interrupted(what: impl Display) -> Self {
        Self { error: anyhow::anyhow!("interrupted: {what}"), exit: Exit::Interrupted, hints: Vec::new() }
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Puts what was being done in front of the causes.
    #[must_use]
    pub fn context(mut self, what: impl Display) -> Self {
        self.error = self.error.context(what.to_string());
        self
    }

    /// Whether a disk had no room.
    #[cfg(feature = "train")]
    pub fn is_full_disk(&self) -> bool {
        io_kind(&self.error).is_some_and(is_full_disk)
    }

    /// Whether the user asked to stop.
    #[cfg(feature = "train")]
    pub fn is_interruption(&self) -> bool {
        matches!(self.exit, Exit::Interrupted)
    }

    /// The exit code.
    #[cfg(feature = "mpi")]
    pub fn code(&self) -> i32 {
        self.exit as i32
    }

    fn is_closed_pipe(&self) -> bool {
        io_kind(&self.error) == Some(ErrorKind::BrokenPipe)
    }

    /// `error: what`, then `  caused by: why` for each cause that says something new, then the hints.
    pub fn message(&self) -> String {
        let mut message = format!("error: {}", self.error);
        let mut said = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some errors repeat their cause in their own text.
            if !said.contains(&cause) {
                write!(message, "\n  caused by: {cause}").expect("writing to a string");
            }
            said = cause;
        }
        for hint in &self.hints {
            write!(message, "\n  hint: {hint}").expect("writing to a string");
        }
        message
    }
}

/// The error and its causes on one line, for warnings.
impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Adds context and hints to results.
pub trait FailureExt<T> {
    /// Puts what was being done in front of the causes.
    fn context(self, what: impl Display) -> Result<T, Failure>;
    /// Adds a line that says what to do.
    fn hint(self, hint: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> FailureExt<T> for Result<T, E> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().context(what))
    }

    fn hint(self, hint: impl Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().hint(hint))
    }
}

/// Prints a failure to standard error and turns the result into the exit code.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            crate::output::complain(&failure.message());
            ExitCode::from(failure.exit as u8)
        }
    }
}

#[cfg(test)]
mod tests;
