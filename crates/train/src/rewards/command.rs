//! `kind = "command"`: a program that reads a JSON object a line and answers with a JSON object a line.
//!
//! It is started once, without a shell, and fed `{"prompt": ..., "completion": ..., "answer": ...}` lines; for each it writes
//! `{"reward": number}` (other keys are ignored) and flushes. Threads of their own write to it and read from it, so that
//! neither side waits for the other's pipe. Whatever goes wrong is an error, and it is not started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::shortened;
use super::section::{RewardProblem, default_weight, ensure};
use super::{Reward, RewardError, Sample};

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 1 << 16;
/// Bytes of the error output that a message ends with.
const SAID: usize = 1 << 10;
/// How long a program that closed its output may take to end before it is stopped.
const LAST_MOMENTS: Duration = Duration::from_millis(500);

/// `kind = "command"`: the number that a program gives, any finite one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSection {
    /// Program and arguments; no shell reads them.
    pub command: Vec<String>,
    /// Seconds that the answers to one batch may take together.
    #[serde(default = "default_seconds")]
    pub seconds: f64,
    /// Factor in the sum.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

fn default_seconds() -> f64 {
    60.0
}

impl CommandSection {
    pub(super) fn check(&self) -> Result<(), RewardProblem> {
        let program = self.command.first();
        ensure(program.is_some_and(|program| !program.is_empty()), "rewards.command", || {
            "empty, expected a program and its arguments".into()
        })?;
        ensure(self.seconds > 0.0 && self.seconds <= 1e6, "rewards.seconds", || {
            format!("{}, expected more than 0 and at most 1000000", self.seconds)
        })
    }
}

/// What is sent.
#[derive(Serialize)]
struct Question<'a> {
    prompt: &'a str,
    completion: &'a str,
    answer: &'a str,
}

/// What comes back.
#[derive(Deserialize)]
struct Answer {
    reward: f64,
}

/// A running program.
pub(super) struct Command {
    name: String,
    limit: Duration,
    child: Child,
    questions: Sender<Vec<u8>>,
    answers: Receiver<Result<String, String>>,
    /// The end of what it wrote to its error output.
    said: Arc<Mutex<Vec<u8>>>,
    /// Lines read so far.
    lines: u64,
    failed: bool,
}

impl Command {
    pub fn start(section: &CommandSection) -> Result<Self, RewardError> {
        let name = section.command.join(" ");
        let started = std::process::Command::new(&section.command[0])
            .args(&section.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = started.map_err(|error| RewardError::Command {
            command: name.clone(),
            line: 1,
            problem: format!("cannot start it: {error}"),
        })?;
        let (questions, to_write) = channel::<Vec<u8>>();
        let (read, answers) = channel();
        let said = Arc::new(Mutex::new(Vec::new()));
        // They end with the pipes; a program that ended early is noticed by what it does not write.
        if let Some(mut stdin) = child.stdin.take() {
            thread::spawn(move || {
                to_write.iter().try_for_each(|text| stdin.write_all(&text).and_then(|()| stdin.flush()))
            });
        }
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_lines(stdout, &read));
        }
        if let Some(stderr) = child.stderr.take() {
            let said = said.clone();
            thread::spawn(move || keep_end(stderr, &said));
        }
        let limit = Duration::from_secs_f64(section.seconds);
        Ok(Self { name, limit, child, questions, answers, said, lines: 0, failed: false })
    }

    fn ask(&mut self, samples: &[Sample<'_>]) -> Result<Vec<f32>, String> {
        if self.failed {
            return Err("it failed before and is not started again".into());
        }
        match self.answers.try_recv() {
            Ok(line) => return Err(format!("a line that nothing asked for: {}", shortened(&line?))),
            Err(TryRecvError::Disconnected) => return Err(self.ended()),
            Err(TryRecvError::Empty) => {}
        }
        let deadline = Instant::now() + self.limit;
        let mut text = Vec::new();
        for Sample { prompt, completion, answer, .. } in samples {
            let line = Question { prompt, completion, answer };
            serde_json::to_writer(&mut text, &line).map_err(|error| error.to_string())?;
            text.push(b'\n');
        }
        // A program that is gone is noticed below.
        let _ = self.questions.send(text);
        samples.iter().map(|_| self.answer(deadline)).collect()
    }

    fn answer(&mut self, deadline: Instant) -> Result<f32, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match self.answers.recv_timeout(left) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("no answer within {} seconds for the batch", self.limit.as_secs_f64()));
            }
        };
        let answer: Answer = serde_json::from_str(&line)
            .map_err(|error| format!("{:?} is not {{\"reward\": number}}: {error}", shortened(&line)))?;
        let reward = answer.reward as f32;
        if !reward.is_finite() {
            return Err(format!("the reward {} is not a finite 32-bit number", answer.reward));
        }
        self.lines += 1;
        Ok(reward)
    }

    /// Why there are no more lines.
    fn ended(&mut self) -> String {
        let deadline = Instant::now() + LAST_MOMENTS;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break format!("it ended ({status})"),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => break "it closed its output".to_owned(),
            }
        };
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match String::from_utf8_lossy(&said).trim() {
            "" => status,
            said => format!("{status} and wrote: {said}"),
        }
    }
}

impl Reward for Command {
    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<f32>, RewardError> {
        self.ask(samples).map_err(|problem| {
            self.failed = true;
            let _ = self.child.kill();
            RewardError::Command { command: shortened(&self.name), line: self.lines + 1, problem }
        })
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands on every line until the end, or until one that is no text or too long.
fn read_lines(stdout: ChildStdout, lines: &Sender<Result<String, String>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = stdout.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let complete = line.ends_with(b"\n");
        let line = match read {
            Ok(0) => return,
            Err(error) => Err(format!("cannot read its output: {error}")),
            Ok(_) if !complete && line.len() as u64 == MAX_LINE => {
                Err(format!("a line of more than {MAX_LINE} bytes"))
            }
            Ok(_) => String::from_utf8(line).map_err(|_| "a line that is not UTF-8".to_owned()),
        };
        let stop = line.is_err();
        if lines.send(line.map(|line| line.trim_end().to_owned())).is_err() || stop {
            return;
        }
    }
}

/// Reads the error output and keeps its end.
fn keep_end(mut stderr: ChildStderr, said: &Mutex<Vec<u8>>) {
    let mut part = [0; 4096];
    while let Ok(len @ 1..) = stderr.read(&mut part) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&part[..len]);
        let excess = said.len().saturating_sub(SAID);
        said.drain(..excess);
    }
}
