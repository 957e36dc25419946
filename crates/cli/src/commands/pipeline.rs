//! `shakti pipeline`: commands chained by what they read and write; what has not changed is not made again.

mod file;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::file::Stage;
use self::state::{Ingredients, Record, State, hash};
use crate::failure::{Failure, FailureExt};
use crate::interrupt::Listener;
use crate::settings::Settings;

/// Time between two looks at whether a stage has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Run the stages of a file in order, and only those whose inputs, settings or program changed since they were last made
///
/// The file lists commands of this program with what they read and write; docs/guides/pipeline.md describes it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti pipeline recipes/nano/pipeline.toml --dry-run")]
pub struct PipelineArgs {
    /// The stages; paths in it are relative to the working directory
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Say what would be run and why, and run nothing
    #[arg(long)]
    dry_run: bool,
}

/// What happened to a stage.
#[derive(Debug, Serialize)]
struct Done {
    stage: String,
    /// `cached`, `made`, `resumed`, and in a dry run `stale`.
    state: &'static str,
    /// Why it was not cached.
    reason: Option<String>,
    seconds: Option<f64>,
}

/// Runs the command.
pub fn run(args: &PipelineArgs, settings: &Settings) -> Result<(), Failure> {
    let stages = file::read(&args.file)?;
    let state = State::open(&args.file)?;
    let flags = vec!["--kernels".into(), settings.kernels.name().into()];
    let mut pipeline = Pipeline { settings, state, flags, dry_run: args.dry_run, stale: Vec::new() };
    let mut done = Vec::new();
    for stage in &stages {
        let outcome = pipeline.stage(stage)?;
        settings.output.note(outcome.text());
        done.push(outcome);
    }
    let counts = done.iter().filter(|done| done.state == "cached").count();
    let rest = if args.dry_run { "to be made" } else { "made" };
    let text = format!("{counts} of {} stages cached, {} {rest}", done.len(), done.len() - counts);
    Ok(settings.output.result(&done, text)?)
}

impl Done {
    fn text(&self) -> String {
        let mut text = format!("{}: {}", self.stage, self.state);
        if let Some(reason) = &self.reason {
            text += &format!(" ({reason})");
        }
        if let Some(seconds) = self.seconds {
            text += &format!(", {seconds:.1} s");
        }
        text
    }
}

struct Pipeline<'a> {
    settings: &'a Settings,
    state: State,
    /// Global flags that can change a result.
    flags: Vec<String>,
    dry_run: bool,
    /// In a dry run: stages that would be made, and what they write.
    stale: Vec<(String, Vec<PathBuf>)>,
}

impl Pipeline<'_> {
    fn stage(&mut self, stage: &Stage) -> Result<Done, Failure> {
        if let Some(earlier) = self.follows(stage) {
            return Ok(self.would_run(stage, format!("follows {earlier}")));
        }
        let now = Ingredients::of(stage, &self.flags)?;
        let record = self.state.stages.get(&stage.name).cloned();
        let reason = match &record {
            None => Some("not made yet".into()),
            Some(record) => match record.made_from.difference(&now) {
                Some(difference) => Some(difference),
                None => record.damage()?,
            },
        };
        let Some(reason) = reason else {
            return Ok(Done { stage: stage.name.clone(), state: "cached", reason: None, seconds: None });
        };
        if self.dry_run {
            return Ok(self.would_run(stage, reason));
        }
        let interrupted =
            record.as_ref().is_some_and(|record| record.made.is_none() && record.made_from == now);
        let resumes = interrupted && stage.resumes();
        if !resumes {
            self.clear(stage, record.as_ref())?;
        }
        let seconds = self.make(stage, now, resumes)?;
        let state = if resumes { "resumed" } else { "made" };
        Ok(Done { stage: stage.name.clone(), state, reason: Some(reason), seconds: Some(seconds) })
    }

    /// In a dry run: an earlier stage that would be made and writes what this one reads.
    fn follows(&self, stage: &Stage) -> Option<String> {
        let reads = |output: &PathBuf| {
            let named = stage.command.iter().map(Path::new).chain(stage.inputs.iter().map(PathBuf::as_path));
            let recipe = stage.all_inputs().unwrap_or_default();
            named
                .chain(recipe.iter().map(PathBuf::as_path))
                .any(|input| input.starts_with(output) || output.starts_with(input))
        };
        let found = self.stale.iter().find(|(_, outputs)| outputs.iter().any(reads));
        found.map(|(name, _)| name.clone())
    }

    fn would_run(&mut self, stage: &Stage, reason: String) -> Done {
        self.stale.push((stage.name.clone(), stage.outputs.clone()));
        Done { stage: stage.name.clone(), state: "stale", reason: Some(reason), seconds: None }
    }

    /// Deletes what this stage wrote before; refuses what it did not.
    fn clear(&self, stage: &Stage, record: Option<&Record>) -> Result<(), Failure> {
        for output in stage.outputs.iter().filter(|output| output.exists()) {
            if !record.is_some_and(|record| record.outputs.contains(output)) {
                let message = format!(
                    "stage `{}`: {} exists, and this pipeline did not make it",
                    stage.name,
                    output.display()
                );
                return Err(Failure::bad_input(message).hint("move or delete it, or name another output"));
            }
            let removed =
                if output.is_dir() { std::fs::remove_dir_all(output) } else { std::fs::remove_file(output) };
            removed.context(format!("{}: cannot remove", output.display()))?;
        }
        Ok(())
    }

    /// Runs a stage and remembers what it made; its seconds.
    fn make(&mut self, stage: &Stage, made_from: Ingredients, resumes: bool) -> Result<f64, Failure> {
        let mut record = Record { made_from, outputs: stage.outputs.clone(), made: None, seconds: 0.0 };
        self.state.stages.insert(stage.name.clone(), record.clone());
        self.state.save()?;
        self.settings.output.note(format!("{}: {}", stage.name, stage.command.join(" ")));
        let begin = Instant::now();
        let status = self.spawn(stage, resumes)?;
        if !status.success() {
            return Err(ended(stage, status));
        }
        record.seconds = begin.elapsed().as_secs_f64();
        let mut made = BTreeMap::new();
        for output in &stage.outputs {
            if !output.exists() {
                let message =
                    format!("stage `{}` ended well, but {} is not there", stage.name, output.display());
                return Err(Failure::bad_input(message).hint("`outputs` must list what the command writes"));
            }
            made.insert(output.clone(), hash(output)?);
        }
        record.made = Some(made);
        let seconds = record.seconds;
        self.state.stages.insert(stage.name.clone(), record);
        self.state.save()?;
        Ok(seconds)
    }

    /// Runs this program with the stage's arguments and waits; an interrupt is passed on.
    fn spawn(&self, stage: &Stage, resumes: bool) -> Result<ExitStatus, Failure> {
        let listener = Listener::new();
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command
            .args(&self.flags)
            .args(["--threads", &self.settings.threads[0].to_string()])
            .args(&stage.command);
        if resumes {
            command.arg("--resume");
        }
        // Standard output is that of the pipeline alone.
        command.stdin(std::process::Stdio::null()).stdout(std::io::stderr());
        // A Ctrl-C on the terminal reaches this process alone, which passes it on once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context(format!("stage `{}`: starting the command", stage.name))?;
        let mut told = false;
        loop {
            if let Some(status) = child.try_wait().context("waiting for a stage")? {
                return Ok(status);
            }
            if listener.requested() && !told {
                told = true;
                stop(&mut child);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Asks a stage to end.
#[cfg(unix)]
fn stop(child: &mut std::process::Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    // One that has ended just now needs no word.
    let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
}

#[cfg(not(unix))]
fn stop(child: &mut std::process::Child) {
    // One that has ended just now needs no word.
    let _ = child.kill();
}

fn ended(stage: &Stage, status: ExitStatus) -> Failure {
    const INTERRUPTED: i32 = 130;
    match status.code() {
        Some(INTERRUPTED) => Failure::interrupted(format!("stage `{}`", stage.name)).hint(
            "the same command goes on: finished stages are cached, training goes on from its checkpoint",
        ),
        Some(2) => Failure::bad_input(format!("stage `{}` was refused, see above", stage.name)),
        _ => Failure::internal(format!("stage `{}` failed, see above: {status}", stage.name)),
    }
}
