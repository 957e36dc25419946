//! Decoding asks for no memory: what a token needs to work in is kept from the token before it.

mod common;

use std::alloc::System;
use std::ops::ControlFlow;
use std::sync::Arc;

use shakti_engine::{
    CacheMode, GenerateOptions, KvType, Network, Sampler, SamplerOptions, Session, feed_batch, generate,
};
use shakti_kernels::{Cpu, KernelSet};
use shakti_model::{LayerType, Layout, ModelConfig, Parameters, preset};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts what all threads of this program ask for.
#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Steps that are counted: into the ninth block of keys, past the windows.
const STEPS: usize = 530;

/// Requests in all steps together that are no token's: a second thread's memory grows when a large task falls to it for the
/// first time, and the test program says so when a test takes long.
const ALLOWED: usize = 10;

/// How often `work` asked for memory.
fn requests(work: impl FnOnce()) -> usize {
    let region = Region::new(COUNTER);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

/// Every attention pattern, with different numbers of KV heads.
fn config() -> ModelConfig {
    let mut config = preset("shakti-nano").expect("a preset");
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.num_hidden_layers = 3;
    config.num_attention_heads = 4;
    config.num_kv_heads = vec![4, 2, 1];
    config.head_dim = 16;
    config.vocab_size = 97;
    config.max_position_embeddings = 4096;
    config.layer_types =
        vec![LayerType::FullAttention, LayerType::SlidingAttention, LayerType::BlockSparseAttention];
    config.sliding_window = 100;
    config
}

fn network(kind: KvType, threads: usize) -> Arc<Network> {
    let config = config();
    let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 17);
    let cpu = Arc::new(Cpu::new(KernelSet::best().expect("a kernel set"), threads));
    Arc::new(Network::load(config, &params, cpu).expect("a valid model").with_kv_type(kind))
}

/// Counts the second of two equal rounds of steps; the first may let memory grow.
fn requests_of_steps(sessions: &mut [Session], mut step: impl FnMut(&mut [Session])) -> usize {
    (0..STEPS).for_each(|_| step(sessions));
    sessions.iter_mut().for_each(Session::reset);
    requests(|| (0..STEPS).for_each(|_| step(sessions)))
}

/// One test, because the counter counts for the whole program.
#[test]
fn decoding_asks_for_no_memory() {
    let modes = [CacheMode::Bounded { max_seq_len: 1000 }, CacheMode::Streaming { window: 128 }];
    for (kind, threads) in KvType::ALL.into_iter().flat_map(|kind| [(kind, 1), (kind, 2)]) {
        let network = network(kind, threads);
        for mode in modes {
            let place = format!("{}, {threads} threads, {mode:?}", kind.name());
            let session = || Session::new(&network, mode);
            let found = requests_of_steps(&mut [session()], |one| {
                one[0].feed(&[5]).expect("room");
            });
            assert!(found <= ALLOWED, "{place}: {found}");
            // The list of the sequences that take part.
            let found = requests_of_steps(&mut [session(), session(), session()], |all| {
                let [a, b, c] = all else { unreachable!("three sessions") };
                feed_batch(&mut [a, b, c], &[&[1], &[2], &[3]]).expect("room");
            });
            assert!((STEPS..=STEPS + ALLOWED).contains(&found), "{place}, a batch: {found}");
        }
    }
    sampling_asks_for_no_memory();
    generating_asks_for_memory_only_to_keep_the_text();
}

fn sampling_asks_for_no_memory() {
    let network = network(KvType::F16, 1);
    let greedy = SamplerOptions::greedy();
    let warm = SamplerOptions { temperature: 1.0, ..greedy.clone() };
    let options = [
        SamplerOptions { repetition_penalty: 1.1, ..greedy.clone() },
        SamplerOptions { top_k: 5, min_p: 0.01, ..warm.clone() },
        SamplerOptions { top_p: 0.9, repetition_penalty: 1.1, ..warm },
        greedy,
    ];
    for options in options {
        let mut sampler = Sampler::new(options.clone()).expect("options in range");
        let mut id = 0;
        let found = requests_of_steps(
            &mut [Session::new(&network, CacheMode::Bounded { max_seq_len: STEPS })],
            |one| {
                let scores = one[0].feed_top(&[id], sampler.top()).expect("room");
                id = sampler.sample(&scores, one[0].tokens()).expect("finite scores");
            },
        );
        assert!(found <= ALLOWED, "{options:?}: {found}");
    }
}

fn generating_asks_for_memory_only_to_keep_the_text() {
    let model = common::model();
    let tokens = 200;
    let options = GenerateOptions {
        max_new_tokens: Some(tokens),
        sampler: SamplerOptions::greedy(),
        stop_strings: vec!["a string that random weights do not write".to_owned()],
        ignore_eos: true,
    };
    let mut session = Session::new(model.network(), CacheMode::Bounded { max_seq_len: 256 });
    let (region, mut counted) = (Region::new(COUNTER), Vec::with_capacity(tokens));
    let mut on_piece = |_: &str| {
        counted.push(region.change());
        Ok(ControlFlow::Continue(()))
    };
    let prompt = model.encode_text("What is asthma?").expect("ids");
    generate(&model, &mut session, &prompt, &options, &mut on_piece).expect("room");
    let (first, last) = (&counted[tokens / 2], &counted[tokens - 1]);
    let found = last.allocations + last.reallocations - first.allocations - first.reallocations;
    // Ids and text may double once each, and keys may need one more block.
    assert!(found <= 4, "{found} requests for {} tokens", tokens / 2);
}
