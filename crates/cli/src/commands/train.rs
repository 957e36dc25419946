//! `shakti train`: every training stage from a recipe, resumable at any moment; and what a recipe will take.

mod pace;
mod plan;
mod progress;
mod report;
mod together;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use shakti_train::{Outcome, Recipe, RunSettings, Stage, Start, TrainError, train};

use crate::failure::Failure;
use crate::interrupt::Listener;
use crate::output::Output;
use crate::settings::Settings;
pub use progress::Progress;
use together::Together;

/// Train a model on the CPU from a recipe
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(subcommand)]
    command: TrainCommand,
}

#[derive(Debug, Subcommand)]
enum TrainCommand {
    /// Learn from texts: the loss counts on every token
    #[command(after_help = "Example:\n  shakti train pretrain recipes/nano/pretrain.toml --minutes 2")]
    Pretrain(RunArgs),
    /// Learn from conversations: the loss counts on answers only
    #[command(after_help = "Example:\n  shakti train sft recipes/nano/sft.toml --set train.seed=1")]
    Sft(RunArgs),
    /// Learn from pairs of a better and a worse answer: DPO, IPO, ORPO, KTO or SimPO
    #[command(after_help = "Example:\n  shakti train dpo recipes/nano/dpo.toml --set dpo.beta=0.2")]
    Dpo(RunArgs),
    /// Train a reward model: it scores answers, and writes none
    #[command(after_help = "Example:\n  shakti train reward recipes/nano/reward.toml")]
    Reward(RunArgs),
    /// Learn from rewards for what the model writes: PPO, with a head that estimates values
    #[command(after_help = "Example:\n  shakti train ppo recipes/nano/ppo.toml")]
    Ppo(RunArgs),
    /// Learn from rewards for what the model writes, compared within groups: GRPO or RLOO
    #[command(
        after_help = "Example:\n  shakti train grpo recipes/nano/grpo.toml --set grpo.advantage=leave_one_out"
    )]
    Grpo(RunArgs),
    /// Learn what a larger model with the same vocabulary says
    #[command(after_help = "Example:\n  shakti train distill recipes/nano/distill.toml")]
    Distill(RunArgs),
    /// Say beforehand what a recipe takes: memory, tokens per second, hours, and joules where the machine counts them
    #[command(after_help = "Example:\n  shakti train plan recipes/nano/pretrain.toml")]
    Plan(plan::PlanArgs),
}

/// A recipe and what to change in it.
#[derive(Debug, Args)]
struct RecipeArgs {
    /// The recipe; paths in it are relative to the working directory
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// Replace a value of the recipe, e.g. train.steps=100; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Train for this long: a few steps are timed and discarded, then the number of steps is fixed
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    pace: pace::PaceArgs,
    /// Go on after the newest complete checkpoint of the run folder; begin if there is none
    #[arg(long)]
    resume: bool,
    /// With --resume: go on although another kernel set computed the checkpoint; the bits differ from there on
    #[arg(long, requires = "resume")]
    other_kernels: bool,
    /// Delete the run that is in the run folder and begin
    #[arg(long, conflicts_with = "resume")]
    force: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    finished: bool,
    step: u64,
    steps: u64,
    loss: Option<f64>,
    validation_loss: Option<f64>,
    /// Of the finished model, where it is not the last line's.
    #[serde(skip_serializing_if = "Option::is_none")]
    final_validation_loss: Option<f64>,
    tokens: Option<u64>,
    seconds: f64,
    model: Option<PathBuf>,
    checkpoint: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &TrainArgs, settings: &Settings) -> Result<(), Failure> {
    let together = Together::join()?;
    let result = run_as(args, settings, together.as_ref());
    if let (Err(failure), Some(together)) = (&result, &together)
        && !failure.is_interruption()
    {
        together.abort(failure);
    }
    result
}

fn run_as(args: &TrainArgs, settings: &Settings, together: Option<&Together>) -> Result<(), Failure> {
    let (args, stage) = match &args.command {
        TrainCommand::Pretrain(args) => (args, Stage::Pretrain),
        TrainCommand::Sft(args) => (args, Stage::Sft),
        TrainCommand::Dpo(args) => (args, Stage::Dpo),
        TrainCommand::Reward(args) => (args, Stage::Reward),
        TrainCommand::Ppo(args) => (args, Stage::Ppo),
        TrainCommand::Grpo(args) => (args, Stage::Grpo),
        TrainCommand::Distill(args) => (args, Stage::Distill),
        TrainCommand::Plan(args) => return plan::run(args, settings),
    };
    let recipe = args.recipe.load()?;
    let folder = recipe.output.dir.clone();
    let start = match (args.resume, args.force) {
        (true, _) => Start::Resume { allow_other_kernels: args.other_kernels },
        (false, true) => Start::Replace,
        (false, false) => Start::New,
    };
    let listener = Listener::new();
    // Before the threads that compute are made: they inherit it.
    let pace = args.pace.apply(settings.output)?;
    let cpu = settings.cpu();
    let leads = together.is_none_or(Together::leads);
    let mut progress = Progress::new(if leads { settings.output } else { Output::new(false, true) });
    let ranks = together.map(Together::ranks);
    let run = RunSettings { recipe, cpu: &cpu, start, stop: &|| listener.requested(), pace, ranks };
    let outcome = train(run, stage, &mut progress);
    progress.finish();
    let outcome = outcome.map_err(explain)?;
    if leads {
        report::write(&folder, &outcome)?;
        settings.output.result(&report(&outcome), summary(&outcome))?;
    }
    match &outcome.model {
        Some(_) => Ok(()),
        None => Err(Failure::interrupted(format!("stopped after step {}", outcome.step))
            .hint("the same command with --resume goes on from there")),
    }
}

impl RecipeArgs {
    /// The recipe with its overrides; `--minutes` takes the place of steps and minutes in it.
    fn load(&self) -> Result<Recipe, Failure> {
        let minutes = self.minutes.map(|minutes| format!("train.minutes={minutes:?}"));
        let overrides: Vec<String> = self.overrides.iter().cloned().chain(minutes).collect();
        Ok(Recipe::load(&self.recipe, &overrides)?)
    }
}

/// Puts exit code and hints beside an error: a run that fell ill is no bad input.
fn explain(error: TrainError) -> Failure {
    const WHOLE: &str = "the last checkpoint is whole";
    match &error {
        TrainError::OutputExists { .. } => {
            Failure::from(error).hint("--resume goes on with the run there, --force deletes it and begins")
        }
        TrainError::NonFiniteLoss { .. }
        | TrainError::NonFiniteGradient { .. }
        | TrainError::ExplodingGradient { .. } => Failure::internal(error)
            .hint(WHOLE)
            .hint("a lower train.peak_learning_rate or a longer warm-up may help"),
        TrainError::DeadGradient { .. } => Failure::internal(error).hint(WHOLE),
        _ => {
            let failure = Failure::from(error);
            let resumes = failure.is_full_disk();
            if resumes { failure.hint("--resume goes on from the newest checkpoint") } else { failure }
        }
    }
}

fn report(outcome: &Outcome) -> Report {
    Report {
        finished: outcome.model.is_some(),
        step: outcome.step,
        steps: outcome.steps,
        loss: outcome.last.as_ref().map(|line| line.loss),
        validation_loss: outcome.last.as_ref().and_then(|line| line.validation_loss),
        final_validation_loss: outcome.final_validation_loss,
        tokens: outcome.last.as_ref().map(|line| line.tokens),
        seconds: outcome.seconds,
        model: outcome.model.clone(),
        checkpoint: outcome.checkpoint.clone(),
    }
}

fn summary(outcome: &Outcome) -> String {
    let mut text = format!("{} of {} steps in {:.0} s", outcome.step, outcome.steps, outcome.seconds);
    if let Some(line) = &outcome.last {
        text += &format!(", {} tokens, loss {:.4}", line.tokens, line.loss);
        if let Some(loss) = line.validation_loss {
            text += &format!(", validation loss {loss:.4}");
        }
    }
    match (&outcome.model, &outcome.checkpoint) {
        (Some(model), _) => text += &format!("\nmodel: {}", model.display()),
        (None, Some(checkpoint)) => text += &format!("\ncheckpoint: {}", checkpoint.display()),
        (None, None) => {}
    }
    text
}
