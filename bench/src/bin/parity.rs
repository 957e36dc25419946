//! Compares greedy text and teacher-forced choices with llama.cpp on the same GGUF file.
//!
//! The peer is `reference/llama_cpp_logits.cpp`, which prints `id argmax top gap` for every position. Positions where
//! llama.cpp's two best logits are closer than epsilon are ties: either choice is right there.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use shakti_engine::{CacheMode, Model, Session, argmax};
use shakti_kernels::Cpu;

/// What to compare.
#[derive(Debug, Parser)]
struct Args {
    /// The GGUF file
    #[arg(short, long)]
    model: PathBuf,
    /// Text whose tokens are forced
    #[arg(long)]
    text: PathBuf,
    /// The built `llama_cpp_logits`
    #[arg(long)]
    peer: PathBuf,
    /// Tokens of one sequence: at most the length up to which both compute the same function
    #[arg(long, default_value_t = 256)]
    length: usize,
    /// Positions to compare
    #[arg(long, default_value_t = 2048)]
    positions: usize,
    /// Tokens of each greedy continuation; the first 32 of a sequence are its prompt
    #[arg(long, default_value_t = 128)]
    generate: usize,
    /// Logits between the two best below which a choice is a tie: 0.02 for float files, 0.25 for quantized ones
    #[arg(long)]
    epsilon: f32,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

const PROMPT: usize = 32;

/// One line of the peer.
struct Choice {
    argmax: u32,
    gap: f32,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let cpu = Arc::new(Cpu::detect(Some(args.threads))?);
    let model = Model::open(&args.model, cpu)?;
    let text = std::fs::read_to_string(&args.text).with_context(|| args.text.display().to_string())?;
    let ids = model.encode_text(&text)?;
    anyhow::ensure!(
        ids.len() >= args.positions,
        "the text has {} tokens, expected {}",
        ids.len(),
        args.positions
    );
    let (mut positions, mut ties, mut wrong) = (0, 0, 0);
    let (mut continuations, mut equal_tokens, mut differing) = (0, 0, 0);
    for sequence in ids[..args.positions].chunks(args.length) {
        for (ours, theirs) in forced(&model, sequence)?.iter().zip(peer(&args, sequence, 0)?) {
            positions += 1;
            if theirs.gap < args.epsilon {
                ties += 1;
            } else if *ours != theirs.argmax {
                wrong += 1;
            }
        }
        if sequence.len() > PROMPT + args.generate {
            let theirs = peer(&args, &sequence[..PROMPT], args.generate)?;
            let ours = greedy(&model, &sequence[..PROMPT], args.generate)?;
            // The choice made at position i is the argmax of line i.
            let choices = &theirs[PROMPT - 1..PROMPT - 1 + args.generate];
            let certain = choices.iter().take_while(|choice| choice.gap >= args.epsilon).count();
            let same = ours.iter().zip(choices).take(certain).filter(|(a, b)| **a == b.argmax).count();
            continuations += 1;
            equal_tokens += same;
            differing += usize::from(same < certain);
        }
    }
    let report = serde_json::json!({
        "positions": positions, "ties": ties, "tie_share": ties as f64 / positions as f64,
        "wrong_outside_ties": wrong, "greedy_continuations": continuations,
        "greedy_tokens_equal_before_first_tie": equal_tokens, "greedy_continuations_that_differ": differing,
        "epsilon": args.epsilon,
    });
    println!("{report}");
    anyhow::ensure!(wrong == 0 && differing == 0, "choices differ outside ties");
    anyhow::ensure!(ties * 10 <= positions, "more than 10% of the positions are ties");
    Ok(())
}

/// Our choice after each token of a sequence.
fn forced(model: &Model, ids: &[u32]) -> anyhow::Result<Vec<u32>> {
    let mut session = Session::new(model.network(), CacheMode::Bounded { max_seq_len: ids.len() });
    ids.iter().map(|id| Ok(argmax(&session.feed(&[*id])?))).collect()
}

/// Our greedy continuation, without stops.
fn greedy(model: &Model, prompt: &[u32], count: usize) -> anyhow::Result<Vec<u32>> {
    let mut session = Session::new(model.network(), CacheMode::Bounded { max_seq_len: prompt.len() + count });
    let mut next = argmax(&session.feed(prompt)?);
    let mut ids = vec![next];
    while ids.len() < count {
        next = argmax(&session.feed(&[next])?);
        ids.push(next);
    }
    Ok(ids)
}

/// The peer's lines for a sequence and `count` greedy tokens after it.
fn peer(args: &Args, ids: &[u32], count: usize) -> anyhow::Result<Vec<Choice>> {
    let mut child = Command::new(&args.peer)
        .arg(&args.model)
        .args(["-n", &count.to_string(), "-t", &args.threads.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| args.peer.display().to_string())?;
    let text: Vec<String> = ids.iter().map(u32::to_string).collect();
    child.stdin.take().context("the peer has no standard input")?.write_all(text.join(" ").as_bytes())?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "the peer ended with {}", output.status);
    let lines = String::from_utf8(output.stdout)?;
    lines.lines().map(choice).collect()
}

fn choice(line: &str) -> anyhow::Result<Choice> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    anyhow::ensure!(fields.len() == 4, "the peer printed {line:?}, expected `id argmax top gap`");
    Ok(Choice { argmax: fields[1].parse()?, gap: fields[3].parse()? })
}
