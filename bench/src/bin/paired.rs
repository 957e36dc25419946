//! Runs two commands in turn, A B A B ..., takes one number from what each prints, and reports their ratio.
//!
//! A command's number is the first value of the given key in its JSON output (an object, or lines or a list of
//! them; llama-bench's `avg_ts` among them). Rates: a ratio above 1 says that A is faster.

use anyhow::Context as _;
use clap::Parser;
use shakti_measure::{Spread, find_number, processor, run_for_json};

/// The two commands, each run by `sh -c`.
#[derive(Debug, Parser)]
struct Args {
    /// Command of A
    #[arg(short)]
    a: String,
    /// Command of B
    #[arg(short)]
    b: String,
    /// Key of A's number; `KEY[i]` takes the i-th value found
    #[arg(long)]
    a_key: String,
    /// Key of B's number
    #[arg(long)]
    b_key: String,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        a.push(number(&args.a, &args.a_key)?);
        b.push(number(&args.b, &args.b_key)?);
        ratios.push(a[round] / b[round]);
        eprintln!("round {}: {:.1} / {:.1} = {:.3}", round + 1, a[round], b[round], ratios[round]);
    }
    let report = serde_json::json!({
        "ratio": Spread::of(&ratios), "a": Spread::of(&a), "b": Spread::of(&b), "rounds": args.rounds,
        "processor": processor(), "a_command": args.a, "b_command": args.b,
    });
    println!("{report}");
    Ok(())
}

fn number(command: &str, key: &str) -> anyhow::Result<f64> {
    let printed = run_for_json(command)?;
    find_number(&printed, key).with_context(|| format!("{command}: no number under `{key}`"))
}
