//! What is done: one file per command, each with its flags and a `run` function.

pub mod chat;
pub mod data;
pub mod generate;
pub mod model;
pub mod perplexity;
pub mod tokenizer;

use crate::args::Command;
use crate::failure::Failure;
use crate::settings::Settings;

/// Runs one command.
///
/// # Errors
/// What the command met, with its exit code.
pub fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Generate(args) => generate::run(&args, settings),
        Command::Chat(args) => chat::run(&args, settings),
        Command::Model(args) => model::run(&args, settings),
        Command::Perplexity(args) => perplexity::run(&args, settings),
        Command::Tokenizer(args) => tokenizer::run(&args, settings),
        Command::Data(args) => data::run(&args, settings),
    }
}
