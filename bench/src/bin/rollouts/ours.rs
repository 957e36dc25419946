//! Our half: one mode in this process, printed as a JSON line.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use shakti_checkpoint::ModelFile;
use shakti_engine::{DType, KvType, Network, RolloutOptions, SamplerOptions, rollouts};
use shakti_kernels::Cpu;
use shakti_measure::peak_memory_bytes;

use crate::Args;

/// One call after a short one, as the peer does.
pub fn measure(args: &Args) -> anyhow::Result<()> {
    let (mode, batch) = (&args.our_modes[0], args.batch[0]);
    let dtype: DType = mode.parse()?;
    let cpu = Arc::new(Cpu::detect(Some(args.threads))?);
    let model = ModelFile::open(&args.folder)?;
    let network = Network::load_as(model.config().clone(), &model, dtype, cpu.clone())?;
    drop(model);
    // The peer keeps keys and values in the type of its weights.
    let kv_type = if dtype == DType::F32 { KvType::F32 } else { KvType::F16 };
    let network = Arc::new(network.with_kv_type(kv_type));
    let path = args.folder.join("prompts.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let prompts: Vec<Vec<u32>> = serde_json::from_str(&text)?;
    let (count, group) = (batch / args.group, args.group);
    anyhow::ensure!(count * group == batch, "a batch of {batch} in groups of {group}");
    anyhow::ensure!(prompts.len() >= count, "{count} prompts asked for, {} written", prompts.len());
    let prompts: Vec<&[u32]> = prompts[..count].iter().map(Vec::as_slice).collect();
    let temperature = if args.greedy { 0.0 } else { 1.0 };
    let run = |max_new_tokens| {
        let sampler = SamplerOptions { temperature, seed: 1, ..SamplerOptions::greedy() };
        let options =
            RolloutOptions { group, max_new_tokens, sampler, stop_ids: Vec::new(), batch_size: batch };
        rollouts(&network, &prompts, &options, &mut |_| ControlFlow::Continue(()))
    };
    run(4)?;
    let start = Instant::now();
    let found = run(args.new_tokens)?;
    let seconds = start.elapsed().as_secs_f64();
    let tokens: usize = found.iter().map(|rollout| rollout.ids.len()).sum();
    anyhow::ensure!(tokens == batch * args.new_tokens, "{tokens} tokens");
    let report = serde_json::json!({
        "program": "shakti", "kernels": cpu.kernels.name(), "mode": mode, "batch": batch, "group": group, "prompt_tokens": prompts[0].len(),
        "new_tokens": args.new_tokens, "greedy": args.greedy, "threads": args.threads, "seconds": seconds,
        "tokens_per_second": tokens as f64 / seconds,
        "peak_memory_mib": peak_memory_bytes().unwrap_or(0) as f64 / f64::from(1 << 20),
    });
    println!("{report}");
    Ok(())
}
