//! `shakti bench train`: steps of pretraining on random ids.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use shakti_data::{Batch, Segment};
use shakti_kernels::{Clock, Cpu, Precision, Work};
use shakti_measure::{Spread, peak_memory_bytes, processor, random_ids, seconds};
use shakti_model::{LayerType, Layout, ModelConfig, Parameters, preset};
use shakti_train::recipe::{OptimizerKind, PrecisionChoice};
use shakti_train::{OptimizerSettings, Schedule, ScheduleKind, Trainer, TrainerSettings};

use super::frozen::frozen;
use crate::failure::Failure;
use crate::interrupt::Listener;
use crate::settings::Settings;

/// Measure training steps of a model of this shape: tokens per second and memory
///
/// A step is forward pass, loss, backward pass, gradient norm and optimizer on random ids, dense attention, embedding and head
/// tied. The rate is the median over the steps.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti bench train --layers 6 --hidden 256 --ffn 768 --heads 8 --kv-heads 4 \
                        --vocab 4096 --batch 8 --seq 256 --steps 20 --threads 2 --json"
)]
pub struct TrainBenchArgs {
    /// Layers
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = positive())]
    layers: u32,
    /// Width of the residual stream
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive())]
    hidden: u32,
    /// Width of the feed-forward branch
    #[arg(long, value_name = "N", default_value_t = 768, value_parser = positive())]
    ffn: u32,
    /// Query heads
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive())]
    heads: u32,
    /// Key and value heads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive())]
    kv_heads: u32,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = positive())]
    vocab: u32,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive())]
    batch: u32,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive())]
    seq: u32,
    /// Steps that count, after three that do not
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = positive())]
    steps: u32,
    /// What the inputs of matrix products are rounded to
    #[arg(long, value_enum, default_value_t = PrecisionFlag::Auto)]
    precision: PrecisionFlag,
    /// What turns gradients into updates
    #[arg(long, value_enum, default_value_t = OptimizerFlag::Adamw)]
    optimizer: OptimizerFlag,
    /// Keep only the input of each layer and compute the rest again in the backward pass
    #[arg(long)]
    recompute: bool,
    /// Train a LoRA adapter of this rank on the seven linear layers, all else frozen
    #[arg(long, value_name = "N", value_parser = positive())]
    lora_rank: Option<u32>,
    /// With --lora-rank: the frozen weights are blocks, q4_0 or any other type of `shakti quantize` [default: f32]
    #[arg(long, value_name = "TYPE", requires = "lora_rank")]
    base_type: Option<String>,
}

/// `train.optimizer` of a recipe.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OptimizerFlag {
    /// AdamW
    Adamw,
    /// AdamW with moments in 8 bits
    Adamw8,
    /// Muon for the matrices of the layers, AdamW for the rest
    Muon,
}

impl From<OptimizerFlag> for OptimizerKind {
    fn from(flag: OptimizerFlag) -> Self {
        match flag {
            OptimizerFlag::Adamw => Self::AdamW,
            OptimizerFlag::Adamw8 => Self::AdamW8,
            OptimizerFlag::Muon => Self::Muon,
        }
    }
}

/// `train.precision` of a recipe.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionFlag {
    /// What this CPU multiplies fastest
    Auto,
    /// Nothing
    F32,
    /// bf16
    Bf16,
    /// 13-bit integers with scales for groups
    Int16,
}

impl From<PrecisionFlag> for PrecisionChoice {
    fn from(flag: PrecisionFlag) -> Self {
        match flag {
            PrecisionFlag::Auto => Self::Auto,
            PrecisionFlag::F32 => Self::F32,
            PrecisionFlag::Bf16 => Self::Bf16,
            PrecisionFlag::Int16 => Self::Int16,
        }
    }
}

fn positive() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 24)
}

/// Steps that do not count.
const WARM_UP: u32 = 3;

/// What was measured, as `--json` prints it. Rates are medians, ranges `[min, max]`.
#[derive(Debug, Serialize)]
struct TrainReport {
    tokens_per_s: f64,
    tokens_per_s_range: [f64; 2],
    peak_memory_bytes: Option<u64>,
    parameters: usize,
    trained: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    lora_rank: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_type: Option<String>,
    layers: u32,
    hidden: u32,
    ffn: u32,
    heads: u32,
    kv_heads: u32,
    vocab: u32,
    batch: u32,
    seq: u32,
    steps: u32,
    recompute: bool,
    #[serde(flatten)]
    shares: Shares,
    precision: &'static str,
    optimizer: &'static str,
    threads: usize,
    kernel_set: &'static str,
    processor: String,
    version: &'static str,
}

/// Shares of the time of all steps that count. The first four are the phases of a step, the others the operations inside
/// them; what is missing to 1 is what lies between.
#[derive(Debug, Serialize)]
struct Shares {
    share_forward: f64,
    share_head: f64,
    share_backward: f64,
    share_update: f64,
    share_products: f64,
    share_attention: f64,
    share_elements: f64,
    share_cross_entropy: f64,
}

impl Shares {
    fn of(clock: &Clock, seconds: f64) -> Self {
        let share = |work| clock.spent(work).as_secs_f64() / seconds;
        Self {
            share_forward: share(Work::Forward),
            share_head: share(Work::Head),
            share_backward: share(Work::Backward),
            share_update: share(Work::Update),
            share_products: share(Work::Products),
            share_attention: share(Work::Attention),
            share_elements: share(Work::Elements),
            share_cross_entropy: share(Work::CrossEntropy),
        }
    }
}

/// Runs the command.
pub fn run(args: &TrainBenchArgs, settings: &Settings) -> Result<(), Failure> {
    let [threads] = settings.threads[..] else {
        return Err(Failure::bad_input(format!(
            "--threads: expected one number, found {}",
            settings.threads.len()
        )));
    };
    let cpu = Cpu::new(settings.kernels, threads);
    let report = args.measure(&cpu, threads)?;
    Ok(settings.output.result(&report, report.table())?)
}

impl TrainBenchArgs {
    fn measure(&self, cpu: &Cpu, threads: usize) -> Result<TrainReport, Failure> {
        let config = self.config()?;
        let parameters = Layout::new(&config).num_elements();
        let precision = PrecisionChoice::from(self.precision).precision(cpu);
        let mut trainer = self.trainer(cpu, config, precision)?;
        let trained = trainer.params().layout().num_elements();
        let batch = [self.random_batch()];
        let interrupt = Listener::new();
        let (mut rates, mut measured) = (Vec::with_capacity(self.steps as usize), 0.0);
        for step in 0..WARM_UP + self.steps {
            let mut result = None;
            let time = seconds(|| result = Some(trainer.step(&batch)));
            result.transpose()?;
            if interrupt.requested() {
                return Err(Failure::interrupted("no result"));
            }
            if step + 1 == WARM_UP {
                cpu.clock.start();
            }
            if step >= WARM_UP {
                measured += time;
                rates.push(f64::from(self.batch * self.seq) / time);
            }
        }
        let rate = Spread::of(&rates);
        let &Self { layers, hidden, ffn, heads, kv_heads, vocab, batch, seq, steps, recompute, .. } = self;
        Ok(TrainReport {
            tokens_per_s: rate.median,
            tokens_per_s_range: [rate.min, rate.max],
            peak_memory_bytes: peak_memory_bytes(),
            parameters,
            trained,
            lora_rank: self.lora_rank,
            base_type: self.base_type.clone(),
            layers,
            hidden,
            ffn,
            heads,
            kv_heads,
            vocab,
            batch,
            seq,
            steps,
            recompute,
            shares: Shares::of(&cpu.clock, measured),
            precision: PrecisionChoice::from(precision).name(),
            optimizer: OptimizerKind::from(self.optimizer).name(),
            threads,
            kernel_set: cpu.kernels.name(),
            processor: processor(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    fn trainer<'a>(
        &self,
        cpu: &'a Cpu,
        config: ModelConfig,
        precision: Precision,
    ) -> Result<Trainer<'a>, Failure> {
        let settings = self.trainer_settings(precision);
        Ok(match self.lora_rank {
            None => {
                let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 1);
                Trainer::new(cpu, config, params, settings)?
            }
            Some(rank) => {
                let both = frozen(cpu, &config, rank, self.base_type.as_deref())?;
                Trainer::of_adapter(cpu, config, both, settings)?
            }
        })
    }

    fn config(&self) -> Result<ModelConfig, Failure> {
        if !self.hidden.is_multiple_of(2 * self.heads) {
            let message = format!(
                "--hidden {}: expected a multiple of twice --heads {}, so that heads have an even dimension",
                self.hidden, self.heads
            );
            return Err(Failure::bad_input(message));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let message =
                format!("--heads {}: expected a multiple of --kv-heads {}", self.heads, self.kv_heads);
            return Err(Failure::bad_input(message));
        }
        let layers = self.layers as usize;
        Ok(ModelConfig {
            hidden_size: self.hidden as usize,
            intermediate_size: self.ffn as usize,
            num_hidden_layers: layers,
            num_attention_heads: self.heads as usize,
            num_kv_heads: vec![self.kv_heads as usize; layers],
            head_dim: (self.hidden / self.heads) as usize,
            vocab_size: self.vocab as usize,
            max_position_embeddings: self.seq as usize,
            layer_types: vec![LayerType::FullAttention; layers],
            ..preset("shakti-nano")?
        })
    }

    fn trainer_settings(&self, precision: Precision) -> TrainerSettings {
        let steps = u64::from(WARM_UP + self.steps);
        TrainerSettings {
            optimizer: OptimizerSettings { kind: self.optimizer.into(), ..OptimizerSettings::default() },
            schedule: Schedule {
                kind: ScheduleKind::Linear,
                steps,
                warmup_steps: 0,
                decay_steps: 1,
                min_share: 1.0,
            },
            peak_learning_rate: 1e-4,
            precision,
            seed: 0,
            recompute: self.recompute,
        }
    }

    fn random_batch(&self) -> Batch {
        let (count, len) = ((self.batch * self.seq) as usize, self.seq as usize);
        Batch {
            tokens: random_ids(count, self.vocab as usize, 1),
            targets: random_ids(count, self.vocab as usize, 2),
            weights: vec![1.0; count],
            segments: (0..count).step_by(len).map(|start| Segment { start, len }).collect(),
        }
    }
}

impl TrainReport {
    fn table(&self) -> String {
        let [min, max] = self.tokens_per_s_range;
        let mut text = format!(
            "{} parameters, {} trained, {} x {} tokens a step, {}, {} threads, kernel set {}\n",
            self.parameters,
            self.trained,
            self.batch,
            self.seq,
            self.precision,
            self.threads,
            self.kernel_set
        );
        let _ = write!(text, "training {:.0} tokens/s [{min:.0}, {max:.0}]", self.tokens_per_s);
        if let Some(bytes) = self.peak_memory_bytes {
            let _ = write!(text, ", peak memory {:.0} MiB", bytes as f64 / f64::from(1 << 20));
        }
        let Shares { share_forward, share_head, share_backward, share_update, .. } = self.shares;
        let Shares { share_products, share_attention, share_elements, share_cross_entropy, .. } = self.shares;
        let _ = write!(
            text,
            "\nforward {:.0}%, head and loss {:.0}%, backward {:.0}%, update {:.0}%; in them products {:.0}%, attention {:.0}%, \
             norms and other elements {:.0}%, cross entropy {:.0}%",
            100.0 * share_forward,
            100.0 * share_head,
            100.0 * share_backward,
            100.0 * share_update,
            100.0 * share_products,
            100.0 * share_attention,
            100.0 * share_elements,
            100.0 * share_cross_entropy
        );
        text
    }
}
