//! A program run once: what it printed, how long it took, how much memory it had.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::parse::end;

/// Between two looks at a process's memory.
const LOOK: Duration = Duration::from_millis(3);

/// A command line.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Standard output, then standard error.
    pub output: String,
    pub seconds: f64,
    /// Most resident memory in bytes, where it was watched.
    pub peak_bytes: Option<u64>,
}

impl Program {
    /// A program with arguments separated by spaces.
    pub fn new(path: PathBuf, arguments: &str) -> Self {
        Self { path, arguments: arguments.split_whitespace().map(OsString::from).collect() }
    }

    /// One more argument, spaces and all.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The command line without folders, for records.
    pub fn line(&self) -> String {
        let short = |argument: &OsString| {
            let path = Path::new(argument);
            path.file_name().filter(|_| path.is_absolute()).unwrap_or(argument).to_string_lossy().into_owned()
        };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        [name].into_iter().chain(self.arguments.iter().map(short)).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end; `watch` looks at its memory all the while, at the cost of some speed.
    pub fn run(&self, watch: bool) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.path.display()))?;
        let (output, peak_bytes) = if watch { watched(child) } else { (child.wait_with_output(), None) };
        let output = output.with_context(|| self.path.display().to_string())?;
        let seconds = start.elapsed().as_secs_f64();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!("ended with {}: {}", output.status, end(&text(&output.stderr)));
        }
        Ok(Outcome { output: text(&output.stdout) + &text(&output.stderr), seconds, peak_bytes })
    }
}

/// Waits for a process and says its `VmHWM`, as last seen.
fn watched(child: Child) -> (std::io::Result<std::process::Output>, Option<u64>) {
    let status = format!("/proc/{}/status", child.id());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = None;
            while !is_over.load(Ordering::Relaxed) {
                peak = fs::read_to_string(&status).ok().and_then(|text| high_water(&text)).max(peak);
                std::thread::sleep(LOOK);
            }
            peak
        });
        let output = child.wait_with_output();
        is_over.store(true, Ordering::Relaxed);
        (output, watcher.join().unwrap_or_default())
    })
}

/// Bytes of the line `VmHWM: NUMBER kB`.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| 1024 * kib)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh".into(), "-c").arg(script)
    }

    #[test]
    fn a_run_says_what_it_printed_and_took() {
        let outcome = shell("echo out; echo err >&2; sleep 0.1").run(true).expect("a run");
        assert_eq!(outcome.output, "out\nerr\n");
        assert!(
            outcome.seconds > 0.1 && outcome.peak_bytes.is_some_and(|bytes| bytes > 100_000),
            "{outcome:?}"
        );
        assert_eq!(shell("true").arg("/a/b/model.gguf").line(), "sh -c true model.gguf");
    }

    #[test]
    fn a_failure_is_quoted() {
        let error = shell("echo no memory >&2; exit 3").run(false).expect_err("a failure").to_string();
        assert!(error.contains("no memory") && error.contains('3'), "{error}");
        let error =
            Program::new("/no/such/program".into(), "").run(false).expect_err("no program").to_string();
        assert!(error.contains("/no/such/program"), "{error}");
    }
}
