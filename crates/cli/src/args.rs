//! What was typed: the global flags and the list of commands. Each command's own flags stand in its file.

pub mod model;
pub mod sampling;

use clap::{Args, Parser, Subcommand};

use crate::commands;

/// From a domain's text to a private assistant on a small device: tokenizer, training, quantization, chat; offline.
#[derive(Debug, Parser)]
#[command(name = "shakti", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Threads to compute with, at most as many as the system offers cores [default: as many]
    #[arg(long, global = true, value_name = "N", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,
    /// Kernel set to compute with, e.g. scalar, avx2, avx512 [default: the best this CPU runs, or $SHAKTI_KERNELS]
    #[arg(long, global = true, value_name = "NAME")]
    pub kernels: Option<String>,
    /// Print one JSON object on standard output instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only: no progress, no statistics
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[cfg(feature = "train")]
    Quickstart(commands::quickstart::QuickstartArgs),
    #[cfg(feature = "train")]
    Train(commands::train::TrainArgs),
    #[cfg(feature = "train")]
    Pipeline(commands::pipeline::PipelineArgs),
    Quantize(commands::quantize::QuantizeArgs),
    Export(commands::export::ExportArgs),
    Merge(commands::merge::MergeArgs),
    Generate(commands::generate::GenerateArgs),
    Chat(commands::chat::ChatArgs),
    Model(commands::model::ModelArgs),
    Bench(commands::bench::BenchArgs),
    Plan(commands::plan::PlanArgs),
    Perplexity(commands::perplexity::PerplexityArgs),
    #[cfg(feature = "train")]
    Tokenizer(commands::tokenizer::TokenizerArgs),
    #[cfg(feature = "train")]
    Data(commands::data::DataArgs),
}
