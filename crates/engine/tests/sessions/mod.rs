//! Sessions of small random models.

use std::sync::Arc;

use shakti_engine::{CacheMode, Network, Rng, Session};
use shakti_kernels::{Cpu, KernelSet};
use shakti_model::{LayerType, Layout, ModelConfig, Parameters, preset};

pub const VOCAB: usize = 97;

/// Two to four small layers with different numbers of KV heads.
pub fn config(layer_types: &[LayerType], window: usize) -> ModelConfig {
    let mut config = preset("shakti-nano").expect("a preset");
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.num_hidden_layers = layer_types.len();
    config.num_attention_heads = 4;
    config.num_kv_heads = [4, 2, 1, 2].iter().cycle().take(layer_types.len()).copied().collect();
    config.head_dim = 16;
    config.vocab_size = VOCAB;
    config.max_position_embeddings = 4096;
    config.layer_types = layer_types.to_vec();
    config.sliding_window = window;
    // Small weights make attention uniform; these make it choose.
    config.initializer_range = 0.3;
    config
}

pub fn load(config: &ModelConfig, kernels: &'static KernelSet, threads: usize) -> Network {
    let params = Parameters::init(config, Arc::new(Layout::new(config)), 17);
    let cpu = Arc::new(Cpu::new(kernels, threads));
    Network::load(config.clone(), &params, cpu).expect("a valid model")
}

pub fn random_ids(len: usize, seed: u64) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.below(VOCAB) as u32).collect()
}

pub fn bounded(network: &Arc<Network>, max_seq_len: usize) -> Session {
    Session::new(network, CacheMode::Bounded { max_seq_len })
}
