//! `cargo xtask`: checks that the tree keeps the rules of the house, and the long versions of its tests.

mod engine_size;
mod soak;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

/// Checks of the house.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
enum Command {
    /// Check crate levels, file budgets, module docs, `unsafe`, printing, dependencies (also a test of this crate)
    Tidy,
    /// Kill a training run at random moments, fuzz every parser; write a dated record into bench/record
    Soak(soak::SoakArgs),
    /// Build the program without training and data, and refuse one above 8 MB (minutes)
    EngineSize,
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Tidy => tidy::run(&workspace_root()),
        Command::Soak(args) => soak::run(&workspace_root(), &args),
        Command::EngineSize => engine_size::run(&workspace_root()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace's manifest.
fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask stands in the workspace").into()
}
