//! The log of a run, `log.jsonl`: one line a step, each step once however often the run was resumed.
//!
//! Fields: `step`, `loss` (mean nats per target before the update), `learning_rate`, `grad_norm` (before clipping),
//! `tokens` (input tokens seen so far), `tokens_per_s`, `time_s` (since this process began to train), and
//! `validation_loss` where it was measured, and `measures` of what other objectives than the next token look at. No text of
//! the data.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::objectives::Measures;

/// Name of the log in a run folder.
pub const LOG_FILE: &str = "log.jsonl";

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean nats per counted target, before the update.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Input tokens seen since step 1.
    pub tokens: u64,
    /// Input tokens of this step per second of this step.
    pub tokens_per_s: f64,
    /// Seconds since this process began to train.
    pub time_s: f64,
    /// Mean nats per counted held-out target, after the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// What an objective measures besides, such as `rewards/margins`; of held-out data with `eval/` before it.
    #[serde(default, skip_serializing_if = "Measures::is_empty")]
    pub measures: Measures,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens the log of a run folder and cuts off what stands there of steps after `step`.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(run: &Path, step: u64) -> Result<Self, TrainError> {
        let path = run.join(LOG_FILE);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(TrainError::file(&path, "open"))?;
        let keep = bytes_up_to(&file, step).map_err(TrainError::file(&path, "read"))?;
        file.set_len(keep).map_err(TrainError::file(&path, "cut"))?;
        Ok(Self { file, path })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, line: &LogLine) -> Result<(), TrainError> {
        let mut text = serde_json::to_string(line).expect("a struct of numbers");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(TrainError::file(&self.path, "write"))
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(TrainError::file(&self.path, "flush"))
    }

    /// The lines of a run folder's log; a last line that a kill cut short is left out.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(run: &Path) -> Result<Vec<LogLine>, TrainError> {
        let path = run.join(LOG_FILE);
        let file = File::open(&path).map_err(TrainError::file(&path, "open"))?;
        let mut lines = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(TrainError::file(&path, "read"))?;
            lines.extend(serde_json::from_str::<LogLine>(&line));
        }
        Ok(lines)
    }
}

/// Length of the whole lines of steps up to `step`.
fn bytes_up_to(file: &File, step: u64) -> std::io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut keep, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let whole = line.last() == Some(&b'\n');
        match serde_json::from_slice::<LogLine>(&line) {
            Ok(entry) if whole && entry.step <= step => keep += read as u64,
            _ => return Ok(keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> LogLine {
        LogLine {
            step,
            loss: 1.0 / 3.0,
            learning_rate: 1e-3,
            grad_norm: 0.5,
            tokens: 100 * step,
            tokens_per_s: 10.0,
            time_s: 1.5,
            validation_loss: (step == 2).then_some(2.5),
            measures: Measures::new(),
        }
    }

    #[test]
    fn resuming_cuts_later_steps_and_a_torn_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = Log::open(folder.path(), 0).expect("a new log");
        (1..=5).for_each(|step| log.write(&line(step)).expect("a line"));
        log.file.write_all(b"{\"step\": 6, \"lo").expect("a torn line");
        let mut log = Log::open(folder.path(), 3).expect("the log again");
        log.write(&line(4)).expect("a line");
        log.sync().expect("a flush");
        let steps: Vec<u64> = Log::read(folder.path()).expect("lines").iter().map(|line| line.step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
        let text = std::fs::read_to_string(folder.path().join(LOG_FILE)).expect("text");
        assert_eq!(text.matches("validation_loss").count(), 1);
        assert!(text.contains("0.3333333333333333"), "{text}");
    }

    #[test]
    fn a_torn_line_of_a_kept_step_is_cut_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = serde_json::to_string(&line(1)).expect("json");
        std::fs::write(folder.path().join(LOG_FILE), &whole).expect("a line without its end");
        Log::open(folder.path(), 3).expect("the log");
        assert_eq!(std::fs::read(folder.path().join(LOG_FILE)).expect("bytes"), b"");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        Log::open(folder.path(), 0).expect("a new log");
        let mode = std::fs::metadata(folder.path().join(LOG_FILE)).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
