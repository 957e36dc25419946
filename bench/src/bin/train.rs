//! Training steps beside PyTorch on the CPU: `shakti bench train` and `bench/train_pytorch.py` in turn, shape by shape, and a table
//! of rates, peak memory and where our time goes.
//!
//! PyTorch's modes all run in the first round, and its fastest one in the others. The ratio of a row is that of rates in the same
//! round, so 2 means twice as fast; that of memory is ours over theirs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use serde::Serialize;
use shakti_measure::{Spread, find_number, processor, run_for_json};

/// How to run both.
#[derive(Debug, Parser)]
struct Args {
    /// Our program, as `sh -c` takes it
    #[arg(long, default_value = "target/release/shakti")]
    shakti: String,
    /// Python with torch and the script, as `sh -c` takes it
    #[arg(long, default_value = "python bench/train_pytorch.py")]
    pytorch: String,
    /// Rows: names of shapes
    #[arg(long, num_args = 1.., default_values = ["nano", "100m", "100m-recompute", "100m-lora"])]
    rows: Vec<String>,
    /// PyTorch's modes
    #[arg(long, num_args = 1.., default_values = ["f32", "f32-compile", "bf16", "bf16-compile"])]
    modes: Vec<String>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Steps of each run that count
    #[arg(long, default_value_t = 12)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Write what was measured here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is trained, as both programs take it.
struct Shape {
    name: &'static str,
    pytorch: &'static str,
    ours: &'static str,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "nano",
        pytorch: "nano",
        ours: "--layers 6 --hidden 256 --ffn 768 --heads 8 --kv-heads 4 --vocab 4096 --batch 8 --seq 256",
    },
    Shape {
        name: "100m",
        pytorch: "100m",
        ours: "--layers 10 --hidden 640 --ffn 2560 --heads 10 --kv-heads 5 --vocab 32000 --batch 4 --seq 512",
    },
    Shape {
        name: "100m-recompute",
        pytorch: "100m",
        ours: "--layers 10 --hidden 640 --ffn 2560 --heads 10 --kv-heads 5 --vocab 32000 --batch 4 --seq 512 --recompute",
    },
    Shape {
        name: "100m-lora",
        pytorch: "100m --lora-rank 16",
        ours: "--layers 10 --hidden 640 --ffn 2560 --heads 10 --kv-heads 5 --vocab 32000 --batch 4 --seq 512 --lora-rank 16",
    },
];

/// The shares that our program reports, and what the table calls them.
const SHARES: [(&str, &str); 8] = [
    ("share_forward", "forward"),
    ("share_head", "head and loss"),
    ("share_backward", "backward"),
    ("share_update", "update"),
    ("share_products", "products"),
    ("share_attention", "attention"),
    ("share_elements", "norms and elements"),
    ("share_cross_entropy", "softmax of logits"),
];

/// Tokens per second and MiB of each round.
#[derive(Debug, Default, Serialize)]
struct Runs {
    command: String,
    tokens_per_s: Vec<f64>,
    peak_mib: Vec<f64>,
}

impl Runs {
    fn add(
        &mut self,
        rate_key: &str,
        (memory_key, per_mib): (&str, f64),
    ) -> anyhow::Result<Vec<serde_json::Value>> {
        let printed = run_for_json(&self.command)?;
        let number = |key| {
            find_number(&printed, key).with_context(|| format!("{}: no number under `{key}`", self.command))
        };
        let (rate, memory) = (number(rate_key)?, number(memory_key)? / per_mib);
        self.tokens_per_s.push(rate);
        self.peak_mib.push(memory);
        Ok(printed)
    }
}

/// One row of the table.
#[derive(Debug, Serialize)]
struct Row {
    row: &'static str,
    ours: Runs,
    pytorch: Runs,
    pytorch_mode: String,
    /// Of the modes that ran in the first round alone.
    other_modes: Vec<(String, f64)>,
    ratio: Spread,
    memory_ratio: Spread,
    /// Of our last run.
    shares: Vec<(&'static str, f64)>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut rows: Vec<Row> = Vec::new();
    for name in &args.rows {
        let shape = SHAPES.iter().find(|shape| shape.name == name);
        let known = || format!("--rows {name}: known are {}", SHAPES.map(|shape| shape.name).join(", "));
        let row = measure(&args, shape.with_context(known)?)?;
        println!("{}", row.line());
        rows.push(row);
    }
    println!("\n{}", table(&rows, args.threads));
    if let Some(path) = &args.json {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let report = serde_json::json!({
            "processor": processor(), "cores": cores, "threads": args.threads, "rounds": args.rounds, "rows": rows,
        });
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// All rounds of one row.
fn measure(args: &Args, shape: &Shape) -> anyhow::Result<Row> {
    let Args { shakti, pytorch, threads, steps, .. } = args;
    let mut ours = Runs {
        command: format!("{shakti} bench train {} --steps {steps} --threads {threads} --json", shape.ours),
        ..Runs::default()
    };
    let mut modes: Vec<(String, Runs)> = Vec::new();
    for mode in &args.modes {
        let shape = shape.pytorch;
        let command = format!("{pytorch} --shape {shape} --modes {mode} --steps {steps} --threads {threads}");
        modes.push((mode.clone(), Runs { command, ..Runs::default() }));
    }
    let mut printed = Vec::new();
    for round in 0..args.rounds.max(1) {
        printed = ours.add("tokens_per_s", ("peak_memory_bytes", f64::from(1 << 20)))?;
        for (mode, runs) in &mut modes[..if round == 0 { args.modes.len() } else { 1 }] {
            runs.add("tokens_per_second", ("peak_memory_mib", 1.0))?;
            eprintln!(
                "{} round {}: ours {:.0}, PyTorch {mode} {:.0} tokens/s",
                shape.name,
                round + 1,
                ours.tokens_per_s[round],
                runs.tokens_per_s[round]
            );
        }
        if round == 0 {
            modes.sort_by(|(_, a), (_, b)| b.tokens_per_s[0].total_cmp(&a.tokens_per_s[0]));
        }
    }
    let other_modes = modes[1..].iter().map(|(mode, runs)| (mode.clone(), runs.tokens_per_s[0])).collect();
    let (pytorch_mode, pytorch) = modes.swap_remove(0);
    let shares = SHARES.iter().filter_map(|(key, name)| Some((*name, find_number(&printed, key)?))).collect();
    Ok(Row {
        row: shape.name,
        ratio: ratios(&ours.tokens_per_s, &pytorch.tokens_per_s),
        memory_ratio: ratios(&ours.peak_mib, &pytorch.peak_mib),
        ours,
        pytorch,
        pytorch_mode,
        other_modes,
        shares,
    })
}

/// Round by round.
fn ratios(a: &[f64], b: &[f64]) -> Spread {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    Spread::of(&ratios)
}

impl Row {
    fn line(&self) -> String {
        let median = |values: &[f64]| Spread::of(values).median;
        let (ratio, memory) = (self.ratio, self.memory_ratio);
        format!(
            "| {} | {:.0} | {:.0} ({}) | {:.2} [{:.2}, {:.2}] | {:.0} | {:.0} | {:.2} |",
            self.row,
            median(&self.ours.tokens_per_s),
            median(&self.pytorch.tokens_per_s),
            self.pytorch_mode,
            ratio.median,
            ratio.min,
            ratio.max,
            median(&self.ours.peak_mib),
            median(&self.pytorch.peak_mib),
            memory.median
        )
    }
}

/// Rates and memory, then where our time goes.
fn table(rows: &[Row], threads: usize) -> String {
    let mut lines = vec![
        format!(
            "| {}, {threads} threads | ours, tokens/s | PyTorch | ratio | ours, peak MiB | PyTorch | ratio |",
            processor()
        ),
        "|---|---:|---:|---:|---:|---:|---:|".to_owned(),
    ];
    lines.extend(rows.iter().map(Row::line));
    lines.push(String::new());
    let names: Vec<&str> = SHARES.iter().map(|(_, name)| *name).collect();
    lines.push(format!("| share of our time | {} |", names.join(" | ")));
    lines.push(format!("|---|{}", "---:|".repeat(names.len())));
    for row in rows {
        let shares: Vec<String> =
            row.shares.iter().map(|(_, share)| format!("{:.0}%", 100.0 * share)).collect();
        lines.push(format!("| {} | {} |", row.row, shares.join(" | ")));
    }
    lines.join("\n")
}
