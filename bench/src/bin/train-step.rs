//! One training step after another on random ids: tokens per second and memory, as one JSON object.

use std::sync::Arc;

use clap::Parser;
use shakti_kernels::{AdamWStep, Aligned, Cpu, KernelSet, Precision};
use shakti_measure::{Spread, peak_memory_bytes, processor, random_ids, seconds};
use shakti_model::{
    Batch, Compute, Decoder, LayerType, Layout, ModelConfig, Parameters, Targets, TrainPass, preset,
};

/// The shape, and how long to measure it.
#[derive(Debug, Parser)]
struct Args {
    #[arg(long, default_value_t = 6)]
    layers: usize,
    #[arg(long, default_value_t = 256)]
    hidden: usize,
    #[arg(long, default_value_t = 768)]
    ffn: usize,
    #[arg(long, default_value_t = 8)]
    heads: usize,
    #[arg(long, default_value_t = 4)]
    kv_heads: usize,
    #[arg(long, default_value_t = 4096)]
    vocab: usize,
    /// Sequences of a step
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Tokens of a sequence
    #[arg(long, default_value_t = 256)]
    seq: usize,
    /// Measured steps, after three that are not
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// f32, bf16 or int16
    #[arg(long, default_value = "bf16")]
    precision: String,
    /// Kernel set; absent: the best
    #[arg(long)]
    kernels: Option<String>,
}

const UNCOUNTED: usize = 3;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let cpu = match &args.kernels {
        Some(name) => Cpu::new(KernelSet::by_name(name)?, args.threads),
        None => Cpu::detect(Some(args.threads))?,
    };
    let precision = match args.precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        "int16" => Precision::Int16,
        other => anyhow::bail!("--precision is {other}, expected f32, bf16 or int16"),
    };
    let mut run = Run::new(&args)?;
    let compute = Compute { cpu: &cpu, precision };
    let (mut rates, mut shares) = (Vec::new(), Vec::new());
    for step in 0..UNCOUNTED + args.steps {
        let mut loss = f64::NAN;
        let gradients = seconds(|| loss = run.gradients(compute, step));
        let update = seconds(|| run.update(&cpu, step));
        anyhow::ensure!(loss.is_finite(), "the loss of step {step} is {loss}");
        if step >= UNCOUNTED {
            rates.push((args.batch * args.seq) as f64 / (gradients + update));
            shares.push(update / (gradients + update));
        }
    }
    let (rate, share) = (Spread::of(&rates), Spread::of(&shares));
    let report = serde_json::json!({
        "tokens_per_s": rate.median, "tokens_per_s_range": [rate.min, rate.max],
        "optimizer_share": share.median, "peak_memory_bytes": peak_memory_bytes(),
        "parameters": run.params.data.len(), "precision": args.precision, "kernel_set": cpu.kernels.name(),
        "threads": args.threads, "processor": processor(),
    });
    println!("{report}");
    Ok(())
}

struct Run {
    decoder: Decoder,
    params: Parameters,
    grads: Parameters,
    moments: [Aligned; 2],
    tokens: Vec<u32>,
    targets: Vec<u32>,
    rows: Vec<std::ops::Range<usize>>,
}

impl Run {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let config = ModelConfig {
            hidden_size: args.hidden,
            intermediate_size: args.ffn,
            num_hidden_layers: args.layers,
            num_attention_heads: args.heads,
            num_kv_heads: vec![args.kv_heads; args.layers],
            head_dim: args.hidden / args.heads,
            vocab_size: args.vocab,
            max_position_embeddings: args.seq,
            layer_types: vec![LayerType::FullAttention; args.layers],
            ..preset("shakti-nano")?
        };
        let layout = Arc::new(Layout::new(&config));
        let params = Parameters::init(&config, layout.clone(), 1);
        let count = args.batch * args.seq;
        Ok(Self {
            decoder: Decoder::new(config)?,
            grads: Parameters::zeros(layout),
            moments: [Aligned::zeros(params.data.len()), Aligned::zeros(params.data.len())],
            params,
            tokens: random_ids(count, args.vocab, 1),
            targets: random_ids(count, args.vocab, 2),
            rows: (0..args.batch).map(|index| index * args.seq..(index + 1) * args.seq).collect(),
        })
    }

    fn gradients(&mut self, compute: Compute<'_>, step: usize) -> f64 {
        self.grads.data.fill(0.0);
        let batch = Batch { tokens: &self.tokens, rows: &self.rows };
        let weights = vec![1.0; self.tokens.len()];
        let targets = Targets { targets: &self.targets, weights: &weights };
        let pass = TrainPass { grad_scale: 1.0 / self.tokens.len() as f32, dropout_seed: step as u64 };
        let loss =
            self.decoder.loss_and_gradients(compute, &self.params, (batch, targets), pass, &mut self.grads);
        loss.map_or(f64::NAN, |loss| loss.mean())
    }

    fn update(&mut self, cpu: &Cpu, step: usize) {
        let norm = cpu.sum_squares(&self.grads.data).sqrt() as f32;
        let settings = AdamWStep {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: step as u64 + 1,
            grad_scale: (1.0 / norm).min(1.0),
        };
        let [m, v] = &mut self.moments;
        cpu.adamw(&mut self.params.data, &self.grads.data, m, v, &settings);
    }
}
