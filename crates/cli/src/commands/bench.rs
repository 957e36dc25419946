//! `shakti bench`: prefill and decode of a model on this machine, alone or in alternation with another program.

mod cell;
#[cfg(feature = "train")]
mod frozen;
mod report;
#[cfg(feature = "train")]
mod train;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use shakti_checkpoint::ModelFile;
use shakti_measure::Cell;

use crate::args::model::ServeArgs;
use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;
use report::CellReport;

/// Measure tokens per second, memory, energy and load time of a model
///
/// Rates are medians over the repetitions and count the tokens of all sequences; the first round is not counted. Decoding
/// takes the best token each time: no sampler, no text. Values separated by commas, also of --threads, give several
/// cells, each measured in a process of its own; --json then prints an array.
///
/// Joules are those of the processor's counter, idle power and other programs included. Without a readable counter,
/// CPU-seconds and bytes read per token stand for them.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  shakti bench -m out/quickstart/model-q4_0.gguf --threads 1,2 --prompt 256 --gen 64\n\n\
                  With llama.cpp in the same rounds:\n  shakti bench -m FILE --threads 2 --peer 'llama-bench -m {model} \
                  -t {threads} -p {prompt} -n {gen} -d {depth} -r 1 -o json'"
)]
pub struct BenchArgs {
    #[cfg(feature = "train")]
    #[command(subcommand)]
    subject: Option<Subject>,
    /// A GGUF file or a checkpoint folder
    #[arg(short = 'm', long = "model", value_name = "MODEL", required = true)]
    model: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "512", value_parser = tokens())]
    prompt: Vec<u32>,
    /// Tokens decoded
    #[arg(long = "gen", value_name = "N", value_delimiter = ',', default_value = "128", value_parser = tokens())]
    generate: Vec<u32>,
    /// Tokens in the cache before either
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0")]
    depth: Vec<u32>,
    /// Sequences at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Vec<u32>,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Grams of CO2 per kilowatt-hour of your electricity, to turn joules into grams
    #[arg(long, value_name = "G_PER_KWH")]
    grid: Option<f64>,
    /// Folder of the energy counters
    #[arg(long, value_name = "DIR", default_value = shakti_measure::POWERCAP)]
    powercap: PathBuf,
    /// Another program, run by `sh -c` after each round of ours; {model}, {threads}, {prompt}, {gen}, {depth} and {batch}
    /// are replaced. Its JSON is llama-bench's, or has the keys named below
    #[arg(long, value_name = "CMD")]
    peer: Option<String>,
    /// Key of its prompt tokens per second; KEY[i] takes the i-th number of that name
    #[arg(long, value_name = "KEY", requires = "peer")]
    peer_prefill_key: Option<String>,
    /// Key of its generated tokens per second
    #[arg(long, value_name = "KEY", requires = "peer")]
    peer_decode_key: Option<String>,
}

/// What is measured instead of a model that answers.
#[cfg(feature = "train")]
#[derive(Debug, clap::Subcommand)]
enum Subject {
    Train(train::TrainBenchArgs),
}

fn tokens() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// Runs the command.
pub fn run(args: &BenchArgs, settings: &Settings) -> Result<(), Failure> {
    #[cfg(feature = "train")]
    if let Some(Subject::Train(args)) = &args.subject {
        return train::run(args, settings);
    }
    args.check(settings)?;
    let cells: Vec<(usize, Cell)> = args.cells(&settings.threads);
    let output = settings.output;
    if let [(threads, cell)] = cells[..] {
        let report = cell::measure(args, settings, threads, cell)?;
        return Ok(output.result(&report, report::table(std::slice::from_ref(&report)))?);
    }
    let mut reports = Vec::with_capacity(cells.len());
    for (threads, cell) in &cells {
        reports.push(args.measure_apart(settings, *threads, *cell)?);
    }
    Ok(output.result(&reports, report::table(&reports))?)
}

impl BenchArgs {
    fn model(&self) -> &Path {
        self.model.as_deref().expect("required unless there is a subject")
    }

    /// Refuses what cannot be measured, before the first cell.
    fn check(&self, settings: &Settings) -> Result<(), Failure> {
        if let Some(grid) = self.grid.filter(|grid| !(grid.is_finite() && *grid >= 0.0)) {
            return Err(Failure::bad_input(format!("--grid {grid}: expected grams per kilowatt-hour")));
        }
        settings.check_exists(self.model())?;
        let file = ModelFile::open(self.model()).context("cannot open the model")?;
        let context = file.config().max_position_embeddings;
        for (_, cell) in self.cells(&settings.threads) {
            let Cell { prompt, generate, depth, .. } = cell;
            if prompt + generate + depth > context {
                let message = format!(
                    "--depth {depth}, --prompt {prompt} and --gen {generate} are {} tokens, but the model's context is {context}",
                    prompt + generate + depth
                );
                return Err(Failure::bad_input(message));
            }
        }
        Ok(())
    }

    /// Every combination of the values, with its number of threads.
    fn cells(&self, threads: &[usize]) -> Vec<(usize, Cell)> {
        let mut cells = Vec::new();
        for &threads in threads {
            for &batch in &self.batch {
                for &depth in &self.depth {
                    for &prompt in &self.prompt {
                        cells.extend(self.generate.iter().map(|&generate| {
                            let [prompt, generate, depth, batch] =
                                [prompt, generate, depth, batch].map(|number| number as usize);
                            (threads, Cell { prompt, generate, depth, batch })
                        }));
                    }
                }
            }
        }
        cells
    }

    /// Measures a cell in a process of its own, so that its load time and its peak memory are its own.
    fn measure_apart(&self, settings: &Settings, threads: usize, cell: Cell) -> Result<CellReport, Failure> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(["bench", "--json", "--kernels", settings.kernels.name(), "--model"]).arg(self.model());
        let numbers = [
            ("--threads", threads),
            ("--prompt", cell.prompt),
            ("--gen", cell.generate),
            ("--depth", cell.depth),
            ("--batch", cell.batch),
            ("--repeat", self.repeat as usize),
        ];
        for (flag, number) in numbers {
            command.arg(flag).arg(number.to_string());
        }
        let options = self.serve.options();
        command.arg("--kv-type").arg(options.kv_type.name());
        if options.head_screen {
            command.arg("--head-screen");
        }
        command.arg("--powercap").arg(&self.powercap);
        if let Some(grid) = self.grid {
            command.arg("--grid").arg(grid.to_string());
        }
        let peer = [
            ("--peer", &self.peer),
            ("--peer-prefill-key", &self.peer_prefill_key),
            ("--peer-decode-key", &self.peer_decode_key),
        ];
        for (flag, value) in peer {
            command.args(value.iter().flat_map(|value| [flag, value]));
        }
        if settings.output.is_quiet() {
            command.arg("--quiet");
        }
        // What the process has to say about its work it says itself.
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot measure a cell")?;
        match child.status.code() {
            Some(0) => Ok(serde_json::from_slice(&child.stdout).context("the report of a cell")?),
            Some(2) => Err(Failure::bad_input("a cell could not be measured, see above")),
            Some(130) => Err(Failure::interrupted("no result")),
            _ => Err(Failure::internal(format!("a cell ended with {}, see above", child.status))),
        }
    }
}
