//! Rollouts beside Transformers' `generate`: both sides in turn, each run in a process of its own, and a table of rates.
//!
//! The weights and prompts are those that `bench/rollouts_transformers.py --write FOLDER` writes. All modes of both sides run in the
//! first round, and each side's fastest one in the others; the ratio is that of rates in the same round, so 5 means five times as
//! fast.

mod ours;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use serde::Serialize;
use shakti_measure::{Spread, find_number, processor, run_for_json};

/// What to compare, and how to run both.
#[derive(Debug, Parser)]
struct Args {
    /// Folder with the model and `prompts.json`
    folder: PathBuf,
    /// This program, as `sh -c` takes it
    #[arg(long, default_value = "target/release/rollouts")]
    ours: String,
    /// Python with transformers and the script, as `sh -c` takes it
    #[arg(long, default_value = "python bench/rollouts_transformers.py")]
    transformers: String,
    /// Samples decoded together
    #[arg(long, num_args = 1.., default_values_t = [8, 32])]
    batch: Vec<usize>,
    /// Samples of each prompt
    #[arg(long, default_value_t = 8)]
    group: usize,
    /// Modes of ours
    #[arg(long, num_args = 1.., default_values = ["f32", "bf16"])]
    our_modes: Vec<String>,
    /// Modes of Transformers
    #[arg(long, num_args = 1.., default_values = ["f32-dynamic", "f32-static", "bf16-dynamic", "bf16-static"])]
    their_modes: Vec<String>,
    #[arg(long, default_value_t = 128)]
    new_tokens: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Take the highest score instead of sampling
    #[arg(long)]
    greedy: bool,
    /// Write what was measured here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure the first of our modes and batches in this process
    #[arg(long)]
    here: bool,
}

/// The runs of one mode.
#[derive(Debug, Serialize)]
struct Runs {
    mode: String,
    command: String,
    tokens_per_second: Vec<f64>,
    peak_memory_mib: Vec<f64>,
}

/// One row of the table.
#[derive(Debug, Serialize)]
struct Row {
    batch: usize,
    /// The fastest mode of each side.
    ours: Runs,
    transformers: Runs,
    /// Modes that ran in the first round alone.
    others: Vec<Runs>,
    ratio: Spread,
    memory_ratio: Spread,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.here {
        return ours::measure(&args);
    }
    let mut rows: Vec<Row> = Vec::new();
    for batch in &args.batch {
        rows.push(measure(&args, *batch)?);
    }
    println!("{}", table(&args, &rows));
    if let Some(path) = &args.json {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let report = serde_json::json!({
            "processor": processor(), "cores": cores, "threads": args.threads, "rounds": args.rounds, "greedy": args.greedy,
            "group": args.group, "new_tokens": args.new_tokens, "rows": rows,
        });
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// All rounds of one batch size.
fn measure(args: &Args, batch: usize) -> anyhow::Result<Row> {
    let Args { folder, new_tokens, threads, group, .. } = args;
    let common = format!(
        "{} --batch {batch} --group {group} --new-tokens {new_tokens} --threads {threads}{}",
        folder.display(),
        if args.greedy { " --greedy" } else { "" }
    );
    let runs = |mode: &String, command: String| Runs {
        mode: mode.clone(),
        command,
        tokens_per_second: Vec::new(),
        peak_memory_mib: Vec::new(),
    };
    let our = |mode| runs(mode, format!("{} {common} --here --our-modes {mode}", args.ours));
    let their = |mode| runs(mode, format!("{} {common} --modes {mode}", args.transformers));
    let mut sides: [Vec<Runs>; 2] =
        [args.our_modes.iter().map(our).collect(), args.their_modes.iter().map(their).collect()];
    for round in 0..args.rounds.max(1) {
        for side in &mut sides {
            let modes = if round == 0 { side.len() } else { 1 };
            for runs in &mut side[..modes] {
                runs.run()?;
                let rate = runs.tokens_per_second[round];
                eprintln!("batch {batch}, round {}: {} {rate:.0} tokens/s", round + 1, runs.mode);
            }
            side.sort_by(|a, b| b.tokens_per_second[0].total_cmp(&a.tokens_per_second[0]));
        }
    }
    let [mut ours, mut theirs] = sides;
    let (fastest, peer) = (ours.remove(0), theirs.remove(0));
    Ok(Row {
        batch,
        ratio: ratios(&fastest.tokens_per_second, &peer.tokens_per_second),
        memory_ratio: ratios(&fastest.peak_memory_mib, &peer.peak_memory_mib),
        ours: fastest,
        transformers: peer,
        others: ours.into_iter().chain(theirs).collect(),
    })
}

impl Runs {
    fn run(&mut self) -> anyhow::Result<()> {
        let printed = run_for_json(&self.command)?;
        let number = |key| {
            find_number(&printed, key).with_context(|| format!("{}: no number under `{key}`", self.command))
        };
        let (rate, memory) = (number("tokens_per_second")?, number("peak_memory_mib")?);
        self.tokens_per_second.push(rate);
        self.peak_memory_mib.push(memory);
        Ok(())
    }
}

/// Round by round.
fn ratios(a: &[f64], b: &[f64]) -> Spread {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    Spread::of(&ratios)
}

fn table(args: &Args, rows: &[Row]) -> String {
    let choice = if args.greedy { "greedy" } else { "sampled" };
    let mut lines = vec![
        format!(
            "| {}, {} threads, {choice}, groups of {} | ours, tokens/s | Transformers | ratio | ours, peak MiB | Transformers | ratio |",
            processor(),
            args.threads,
            args.group
        ),
        "|---|---:|---:|---:|---:|---:|---:|".to_owned(),
    ];
    let median = |values: &[f64]| Spread::of(values).median;
    lines.extend(rows.iter().map(|Row { batch, ours, transformers, ratio, memory_ratio, .. }| {
        format!(
            "| batch {batch} | {:.0} ({}) | {:.0} ({}) | {:.2} [{:.2}, {:.2}] | {:.0} | {:.0} | {:.2} |",
            median(&ours.tokens_per_second),
            ours.mode,
            median(&transformers.tokens_per_second),
            transformers.mode,
            ratio.median,
            ratio.min,
            ratio.max,
            median(&ours.peak_memory_mib),
            median(&transformers.peak_memory_mib),
            memory_ratio.median
        )
    }));
    lines.join("\n")
}
