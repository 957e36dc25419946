//! The `shakti` command: from a domain's text to a private assistant on a small device.
//!
//! `args` (what was typed) -> `settings` (what was decided) -> `commands` (what is done). Only this crate prints.

mod args;
mod commands;
mod failure;
mod interrupt;
mod output;
#[cfg(feature = "train")]
mod report;
mod settings;
mod stats;
#[cfg(feature = "train")]
mod vocabulary;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::settings::Settings;

fn main() -> ExitCode {
    let cli = Cli::parse();
    interrupt::install();
    let outcome = std::panic::catch_unwind(|| {
        let measures = matches!(cli.command, Command::Bench(_));
        let settings = Settings::new(&cli.global, measures)?;
        commands::run(cli.command, &settings)
    });
    match outcome {
        Ok(result) => failure::report(result),
        // The panic hook has already printed what happened and where.
        Err(_) => {
            failure::report(Err(failure::Failure::internal("this is a bug in shakti, see the panic above")))
        }
    }
}
