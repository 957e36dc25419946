//! What must be the same: prefill and decode, alone and batched, rings and full caches, patterns and dense
//! attention within their reach, streaming and bounded caches.

use std::sync::Arc;

use crate::common::{machines, relative};
use shakti_kernels::{Cpu, Precision};
use shakti_model::{
    Batch, CacheMode, Compute, Decoder, KvCache, LayerType, Layout, ModelConfig, PackedWeights, Parameters,
    Weights, preset,
};

fn small(layer_types: &[LayerType], window: usize) -> ModelConfig {
    let mut config = preset("shakti-nano").unwrap();
    config.num_hidden_layers = layer_types.len();
    config.layer_types = layer_types.to_vec();
    config.num_kv_heads = [2, 1, 4].into_iter().cycle().take(layer_types.len()).collect();
    (config.hidden_size, config.intermediate_size) = (64, 96);
    (config.num_attention_heads, config.head_dim, config.vocab_size) = (4, 16, 128);
    config.sliding_window = window;
    config.initializer_range = 0.2;
    config
}

fn params_of(config: &ModelConfig) -> Parameters {
    Parameters::init(config, Arc::new(Layout::new(config)), 7)
}

fn ids(len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| ((i * 2_654_435_761) >> 7) as u32 % 128).collect()
}

/// Logits `[N, V]` of one sequence fed in calls of the given lengths, and of `beside` more sequences in each call.
fn run(
    cpu: &Cpu,
    config: &ModelConfig,
    weights: &Weights<'_>,
    calls: &[&[u32]],
    mode: CacheMode,
    beside: usize,
) -> Vec<f32> {
    let decoder = Decoder::new(config.clone()).unwrap();
    let compute = Compute { cpu, precision: Precision::F32 };
    let longest = calls.iter().map(|call| call.len()).max().unwrap();
    let mut cache = KvCache::new(config, mode, longest);
    let mut logits = Vec::new();
    for call in calls {
        let mut others: Vec<KvCache> =
            (0..beside).map(|_| KvCache::new(config, CacheMode::Bounded { max_seq_len: 3 }, 3)).collect();
        let tokens: Vec<u32> = call.iter().copied().chain([1, 2, 3].repeat(beside)).collect();
        let mut rows = vec![0..call.len()];
        rows.extend((0..beside).map(|other| call.len() + 3 * other..call.len() + 3 * other + 3));
        let mut caches: Vec<&mut KvCache> = std::iter::once(&mut cache).chain(&mut others).collect();
        let hidden =
            decoder.forward(compute, weights, Batch { tokens: &tokens, rows: &rows }, &mut caches).unwrap();
        logits.extend_from_slice(&decoder.logits(
            compute,
            weights,
            &hidden[..call.len() * config.hidden_size],
        ));
    }
    logits
}

const ALL: [LayerType; 3] =
    [LayerType::SlidingAttention, LayerType::BlockSparseAttention, LayerType::FullAttention];

#[test]
fn prefill_equals_single_decodes_and_batched_equals_alone_in_bits() {
    let config = small(&ALL, 80);
    let params = params_of(&config);
    let text = ids(600);
    let mode = CacheMode::Bounded { max_seq_len: 600 };
    let mut one_thread: Option<(&str, Vec<f32>)> = None;
    for cpu in machines() {
        let name = cpu.kernels.name();
        let packed = PackedWeights::load(&config, &params, &cpu).unwrap();
        let whole = run(&cpu, &config, &packed.weights(), &[&text], mode, 0);
        let singles: Vec<&[u32]> = text.chunks(1).collect();
        assert_eq!(whole, run(&cpu, &config, &packed.weights(), &singles, mode, 0), "{name}: decode");
        let chunks: Vec<&[u32]> = text.chunks(77).collect();
        assert_eq!(whole, run(&cpu, &config, &packed.weights(), &chunks, mode, 0), "{name}: chunks");
        assert_eq!(whole, run(&cpu, &config, &packed.weights(), &chunks, mode, 2), "{name}: batched");
        match &one_thread {
            Some((same, bits)) if *same == name => assert_eq!(bits, &whole, "{name}: two threads"),
            _ => one_thread = Some((name, whole)),
        }
    }
}

#[test]
fn training_weights_and_packed_weights_give_the_same_logits() {
    let config = small(&ALL, 80);
    let params = params_of(&config);
    let (text, mode) = (ids(300), CacheMode::Bounded { max_seq_len: 300 });
    for cpu in machines() {
        let packed = PackedWeights::load(&config, &params, &cpu).unwrap();
        let dense = run(&cpu, &config, &Weights::dense(&params), &[&text], mode, 0);
        let error = relative(&run(&cpu, &config, &packed.weights(), &[&text], mode, 0), &dense);
        assert!(error < 1e-4, "{}: {error}", cpu.kernels.name());
    }
}

#[test]
fn patterns_equal_dense_attention_within_their_reach_and_differ_beyond() {
    let cpu = Cpu::detect(Some(1)).unwrap();
    for (kind, reach) in [(LayerType::SlidingAttention, 100), (LayerType::BlockSparseAttention, 512)] {
        let config = small(&[kind; 2], 100);
        let mut dense = config.clone();
        dense.layer_types = vec![LayerType::FullAttention; 2];
        let params = params_of(&config);
        let (text, mode) = (ids(700), CacheMode::Bounded { max_seq_len: 700 });
        let ours = run(&cpu, &config, &Weights::dense(&params), &[&text], mode, 0);
        let full = run(&cpu, &dense, &Weights::dense(&params), &[&text], mode, 0);
        let within = reach * config.vocab_size;
        assert_eq!(ours[..within], full[..within], "{kind:?}");
        assert!(relative(&ours[within..], &full[within..]) > 1e-3, "{kind:?} never left anything out");
    }
}

#[test]
fn a_window_as_long_as_the_text_is_full_attention() {
    let cpu = Cpu::detect(Some(1)).unwrap();
    let config = small(&[LayerType::SlidingAttention; 2], 300);
    let mut dense = config.clone();
    dense.layer_types = vec![LayerType::FullAttention; 2];
    let params = params_of(&config);
    let (text, mode) = (ids(300), CacheMode::Bounded { max_seq_len: 300 });
    let weights = Weights::dense(&params);
    assert_eq!(
        run(&cpu, &config, &weights, &[&text], mode, 0),
        run(&cpu, &dense, &weights, &[&text], mode, 0)
    );
}

#[test]
fn streaming_equals_bounded_until_the_window_fills_and_stays_flat() {
    let cpu = Cpu::detect(Some(1)).unwrap();
    let config = small(&ALL, 96);
    let params = params_of(&config);
    let weights = Weights::dense(&params);
    let text = ids(1200);
    let singles: Vec<&[u32]> = text.chunks(1).collect();
    let bounded = run(&cpu, &config, &weights, &singles, CacheMode::Bounded { max_seq_len: 1200 }, 0);
    let streamed = run(&cpu, &config, &weights, &singles, CacheMode::Streaming { window: 128 }, 0);
    let within = 96 * config.vocab_size;
    assert_eq!(streamed[..within], bounded[..within]);
    assert!(streamed.iter().all(|value| value.is_finite()));
    let (short, long) = (1, 100_000);
    let bytes = |_: usize| KvCache::new(&config, CacheMode::Streaming { window: 128 }, 1).bytes();
    assert_eq!(bytes(short), bytes(long));
}

/// Rotating the four sinks alone equals counting positions inside the cache: the last row, computed from a cache
/// whose kept tokens stand at positions 0.. (arXiv 2309.17453), gives the same logits in a one-layer model.
#[test]
fn streaming_equals_positions_counted_inside_the_cache() {
    let cpu = Cpu::detect(Some(1)).unwrap();
    let config = small(&[LayerType::FullAttention], 96);
    let params = params_of(&config);
    let weights = Weights::dense(&params);
    let (text, window) = (ids(500), 128);
    let singles: Vec<&[u32]> = text.chunks(1).collect();
    let streamed = run(&cpu, &config, &weights, &singles, CacheMode::Streaming { window }, 0);
    let kept: Vec<u32> = text[..4].iter().chain(&text[text.len() - window..]).copied().collect();
    let reindexed = run(&cpu, &config, &weights, &[&kept], CacheMode::Bounded { max_seq_len: kept.len() }, 0);
    let last = |logits: &[f32]| logits[logits.len() - config.vocab_size..].to_vec();
    let error = relative(&last(&streamed), &last(&reindexed));
    assert!(error < 1e-4, "{error}");
}

#[test]
fn a_truncated_cache_continues_as_if_the_rest_had_never_been() {
    let cpu = Cpu::detect(Some(1)).unwrap();
    let config = small(&ALL, 80);
    let params = params_of(&config);
    let weights = Weights::dense(&params);
    let decoder = Decoder::new(config.clone()).unwrap();
    let compute = Compute { cpu: &cpu, precision: Precision::F32 };
    let text = ids(300);
    let mut cache = KvCache::new(&config, CacheMode::Bounded { max_seq_len: 400 }, 64);
    let feed = |cache: &mut KvCache, tokens: &[u32]| {
        let mut hidden = Vec::new();
        for call in tokens.chunks(64) {
            let rows = [0..call.len()];
            hidden = decoder
                .forward(compute, &weights, Batch { tokens: call, rows: &rows }, &mut [cache])
                .unwrap()
                .to_vec();
        }
        hidden[hidden.len() - config.hidden_size..].to_vec()
    };
    feed(&mut cache, &text[..290]);
    let expected = feed(&mut cache, &text[290..]);
    cache.truncate(290).unwrap();
    feed(&mut cache, &[5, 6, 7]);
    cache.truncate(290).unwrap();
    assert_eq!(feed(&mut cache, &text[290..]), expected);
    assert!(cache.truncate(40).is_err(), "the ring has overwritten what position 40 needs");
    let rows = [0..101];
    let batch = Batch { tokens: &text[..101], rows: &rows };
    assert!(decoder.forward(compute, &weights, batch, &mut [&mut cache]).is_err());
}
