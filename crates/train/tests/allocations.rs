//! After the first steps training asks for no array: what it works in is kept from step to step.

use std::alloc::System;
use std::sync::Arc;

use shakti_data::{Batch, Segment};
use shakti_kernels::{Cpu, KernelSet, Precision};
use shakti_model::{LayerType, Layout, ModelConfig, Parameters, preset};
use shakti_train::recipe::Recipe;
use shakti_train::{OptimizerSettings, Schedule, ScheduleKind, Trainer, TrainerSettings};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts what all threads of this program ask for.
#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tokens of a step, in four documents.
const TOKENS: usize = 1024;
const WIDTH: usize = 128;
/// Bytes that a step may ask for: lists of documents, tiles and blocks. The smallest array of a layer's activations, of keys
/// or of values, has `4 * TOKENS * WIDTH / 4` bytes, and a step has dozens of them.
const ALLOWED: usize = TOKENS * WIDTH;

fn config() -> ModelConfig {
    let mut config = preset("shakti-nano").expect("a preset");
    config.hidden_size = WIDTH;
    config.intermediate_size = 3 * WIDTH;
    config.num_hidden_layers = 3;
    config.num_attention_heads = 4;
    config.num_kv_heads = vec![4, 2, 1];
    config.head_dim = WIDTH / 4;
    config.vocab_size = 500;
    config.max_position_embeddings = TOKENS;
    config.layer_types =
        vec![LayerType::FullAttention, LayerType::SlidingAttention, LayerType::BlockSparseAttention];
    config.sliding_window = 100;
    config.hidden_dropout = 0.1;
    config
}

fn settings(precision: Precision, recompute: bool) -> TrainerSettings {
    let text = "[model]\npreset = \"shakti-nano\"\n[tokenizer]\npath = \"t\"\n[data]\nsources = [{ path = \"d\" }]\n\
        [train]\nstage = \"pretrain\"\nsequence_length = 8\nbatch_tokens = 8\nsteps = 10\n\
        peak_learning_rate = 1e-3\n[output]\ndir = \"o\"\n";
    let recipe = Recipe::parse(text, "allocations", &[]).expect("a recipe");
    let schedule =
        Schedule { kind: ScheduleKind::Linear, steps: 10, warmup_steps: 0, decay_steps: 1, min_share: 1.0 };
    let optimizer = OptimizerSettings::from(&recipe.train);
    TrainerSettings { optimizer, schedule, peak_learning_rate: 1e-3, precision, seed: 0, recompute }
}

fn batch() -> Batch {
    let ids = |shift: usize| (0..TOKENS).map(|i| ((i * i + shift) % 500) as u32).collect();
    let starts = [0, 100, 356, 700, TOKENS];
    let segments = starts.windows(2).map(|pair| Segment { start: pair[0], len: pair[1] - pair[0] });
    Batch { tokens: ids(0), targets: ids(1), weights: vec![1.0; TOKENS], segments: segments.collect() }
}

/// One test, because the counter counts for the whole program.
#[test]
fn steps_ask_for_no_array() {
    let batches = [batch()];
    // The scalar loops are the definition, and ask as it suits them.
    for set in KernelSet::available().iter().filter(|set| set.name() != "scalar") {
        for (precision, recompute) in
            [(Precision::F32, false), (Precision::Int16, false), (Precision::Int16, true)]
        {
            let cpu = Cpu::new(set, 2);
            let params = Parameters::init(&config(), Arc::new(Layout::new(&config())), 3);
            let mut trainer =
                Trainer::new(&cpu, config(), params, settings(precision, recompute)).expect("a trainer");
            for _ in 0..3 {
                trainer.step(&batches).expect("a step");
            }
            // A thread's memory grows when a large task falls to it for the first time, so the least of some steps counts.
            let mut least = usize::MAX;
            let made = cpu.buffers.made();
            for _ in 0..5 {
                let region = Region::new(COUNTER);
                trainer.step(&batches).expect("a step");
                let change = region.change();
                least = least.min(change.bytes_allocated + change.bytes_reallocated.unsigned_abs());
            }
            let place = format!("{}, {precision:?}, recompute {recompute}", set.name());
            assert!(least <= ALLOWED, "{place}: {least} bytes");
            assert_eq!(cpu.buffers.made(), made, "{place}: buffers");
        }
    }
}
