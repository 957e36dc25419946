//! Prefill and decode of one model file as the engine does them: tokens per second, as one JSON object.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use shakti_bench::{Spread, peak_memory_bytes, processor, random_ids, seconds};
use shakti_engine::{CacheMode, Model, Session, argmax};
use shakti_kernels::{Cpu, KernelSet};

/// What to measure.
#[derive(Debug, Parser)]
struct Args {
    /// A GGUF file or a checkpoint folder
    #[arg(short, long)]
    model: PathBuf,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Tokens decoded after it
    #[arg(long, default_value_t = 128)]
    generate: usize,
    /// Measured repetitions, after one that is not
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Kernel set; absent: the best
    #[arg(long)]
    kernels: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let cpu = match &args.kernels {
        Some(name) => Cpu::new(KernelSet::by_name(name)?, args.threads),
        None => Cpu::detect(Some(args.threads))?,
    };
    let cpu = Arc::new(cpu);
    let mut model = None;
    let load = seconds(|| model = Some(Model::open(&args.model, cpu.clone())));
    let model = model.into_iter().next().expect("the closure ran")?;
    let ids = random_ids(args.prompt.max(1), model.config().vocab_size, 1);
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for round in 0..=args.repeat {
        // Depth 0 for decoding, as other benchmarks have it.
        let prompt = run(&model, &ids, 0)?;
        let generated = run(&model, &ids[..1], args.generate)?;
        if round > 0 {
            prefill.push(args.prompt as f64 / prompt.0);
            decode.push(args.generate as f64 / generated.1);
        }
    }
    let (prefill, decode) = (Spread::of(&prefill), Spread::of(&decode));
    let report = serde_json::json!({
        "prefill_tokens_per_s": prefill.median, "prefill_tokens_per_s_range": [prefill.min, prefill.max],
        "decode_tokens_per_s": decode.median, "decode_tokens_per_s_range": [decode.min, decode.max],
        "load_s": load, "peak_memory_bytes": peak_memory_bytes(), "weight_bytes": model.network().weight_bytes(),
        "kernel_set": cpu.kernels.name(), "threads": args.threads, "processor": processor(),
    });
    println!("{report}");
    Ok(())
}

/// Seconds for the prompt, and for `count` greedy tokens after it.
fn run(model: &Model, prompt: &[u32], count: usize) -> anyhow::Result<(f64, f64)> {
    let mut session = Session::new(model.network(), CacheMode::Bounded { max_seq_len: prompt.len() + count });
    let mut logits = Vec::new();
    let mut outcome = Ok(());
    let first = seconds(|| match session.feed(prompt) {
        Ok(scores) => logits = scores,
        Err(error) => outcome = Err(error),
    });
    outcome?;
    let mut outcome = Ok(());
    let rest = seconds(|| {
        for _ in 0..count {
            match session.feed(&[argmax(&logits)]) {
                Ok(scores) => logits = scores,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
    });
    outcome?;
    Ok((first, rest))
}
