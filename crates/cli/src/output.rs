//! The one place that prints: results to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

/// Where results and notes go, as `--json` and `--quiet` decided.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    /// An output for these flags.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether the result must be one JSON object.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether notes and progress are left out.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a command's result: `value` as one JSON object, or the text with a line end.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn result(&self, value: &impl Serialize, text: impl Display) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut stdout, value)?;
            writeln!(stdout)
        } else {
            writeln!(stdout, "{text}")
        }
    }

    /// Under `--json`, prints the one object of a command whose text was printed in pieces.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn object(&self, value: &impl Serialize) -> io::Result<()> {
        if self.json { self.result(value, "") } else { Ok(()) }
    }

    /// Prints a piece of a result as it is, at once; nothing under `--json`.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn piece(&self, text: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Asks for a line on the terminal: standard error, no line end, even if quiet.
    pub fn prompt(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // As in `complain`, there is nobody left to tell.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }

    /// Prints a line about the work to standard error, unless `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            complain(&text.to_string());
        }
    }

    /// Shows where the work stands, on a line of the terminal that the next one replaces; nothing without a terminal.
    /// An empty text clears the line.
    pub fn progress(&self, text: impl Display) {
        let mut stderr = io::stderr().lock();
        if !self.quiet && stderr.is_terminal() {
            // As in `complain`, there is nobody left to tell.
            let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
        }
    }

    /// Prints a warning to standard error, quiet or not.
    pub fn warn(&self, text: impl Display) {
        complain(&format!("warning: {text}"));
    }
}

/// Writes a line to standard error; if even that is closed, there is nobody left to tell.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
