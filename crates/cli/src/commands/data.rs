//! `shakti data`: what is in training files, and what should not be.

mod canary;
mod decontaminate;
mod dedup;
mod files;
mod inspect;
mod pii;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::settings::Settings;

/// Look at training data and clean it
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    Inspect(inspect::InspectArgs),
    Dedup(dedup::DedupArgs),
    Decontaminate(decontaminate::DecontaminateArgs),
    Pii(pii::PiiArgs),
    Canary(canary::CanaryArgs),
}

/// Runs the command.
pub fn run(args: &DataArgs, settings: &Settings) -> Result<(), Failure> {
    match &args.command {
        DataCommand::Inspect(args) => inspect::run(args, settings),
        DataCommand::Dedup(args) => dedup::run(args, settings),
        DataCommand::Decontaminate(args) => decontaminate::run(args, settings),
        DataCommand::Pii(args) => pii::run(args, settings),
        DataCommand::Canary(args) => canary::run(args, settings),
    }
}
