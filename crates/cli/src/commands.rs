//! What is done: one file per command, each with its flags and a `run` function.

pub mod bench;
pub mod chat;
#[cfg(feature = "train")]
pub mod data;
pub mod export;
pub mod generate;
pub mod merge;
pub mod model;
pub mod perplexity;
#[cfg(feature = "train")]
pub mod pipeline;
pub mod plan;
mod quality;
pub mod quantize;
#[cfg(feature = "train")]
pub mod quickstart;
#[cfg(feature = "train")]
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;

use crate::args::Command;
use crate::failure::Failure;
use crate::settings::Settings;

/// Runs one command.
///
/// # Errors
/// What the command met, with its exit code.
pub fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "train")]
        Command::Quickstart(args) => quickstart::run(&args, settings),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(&args, settings),
        #[cfg(feature = "train")]
        Command::Pipeline(args) => pipeline::run(&args, settings),
        Command::Quantize(args) => quantize::run(&args, settings),
        Command::Export(args) => export::run(&args, settings),
        Command::Merge(args) => merge::run(&args, settings),
        Command::Generate(args) => generate::run(&args, settings),
        Command::Chat(args) => chat::run(&args, settings),
        Command::Model(args) => model::run(&args, settings),
        Command::Bench(args) => bench::run(&args, settings),
        Command::Plan(args) => plan::run(&args, settings),
        Command::Perplexity(args) => perplexity::run(&args, settings),
        #[cfg(feature = "train")]
        Command::Tokenizer(args) => tokenizer::run(&args, settings),
        #[cfg(feature = "train")]
        Command::Data(args) => data::run(&args, settings),
    }
}
