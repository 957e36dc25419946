//! What a configuration costs: parameters, FLOPs and bytes per token, KV bytes per token.

use crate::{KEY_BLOCK, LayerType, ModelConfig};

/// Costs that follow from the configuration alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// All parameters; a tied head counts once.
    pub parameters: u64,
    /// Parameters that each decoded token reads: all but an untied embedding table.
    pub parameters_per_token: u64,
    /// Floating-point operations of the matrix products for one decoded token (2 per weight).
    pub linear_flops_per_token: u64,
    /// f16 KV-cache bytes that one token adds.
    pub kv_bytes_per_token: u64,
}

impl Cost {
    /// The cost of a configuration.
    pub fn new(config: &ModelConfig) -> Self {
        let parameters: u64 = config.parameters().iter().map(|spec| spec.num_elements() as u64).sum();
        let table = (config.vocab_size * config.hidden_size) as u64;
        let per_token = parameters - if config.tie_word_embeddings { 0 } else { table };
        let norms: u64 = config
            .parameters()
            .iter()
            .filter(|spec| spec.shape.len() == 1)
            .map(|spec| spec.num_elements() as u64)
            .sum();
        let kv_heads: usize = config.num_kv_heads.iter().sum();
        Self {
            parameters,
            parameters_per_token: per_token,
            linear_flops_per_token: 2 * (per_token - norms),
            kv_bytes_per_token: (2 * 2 * kv_heads * config.head_dim) as u64,
        }
    }

    /// Floating-point operations of attention (scores and values) for the token at `position`.
    pub fn attention_flops(config: &ModelConfig, position: usize) -> u64 {
        let keys: usize = config.layer_types.iter().map(|kind| visible_keys(config, *kind, position)).sum();
        (4 * keys * config.num_attention_heads * config.head_dim) as u64
    }

    /// Keys and values, in numbers, that attention reads from the cache for the token at `position`.
    pub fn kv_values_read(config: &ModelConfig, position: usize) -> u64 {
        let per_layer = config.layer_types.iter().zip(&config.num_kv_heads);
        let values = per_layer.map(|(kind, kv_heads)| 2 * visible_keys(config, *kind, position) * kv_heads);
        (values.sum::<usize>() * config.head_dim) as u64
    }

    /// f16 KV-cache bytes after `tokens` tokens; sliding layers stop growing at their window.
    pub fn kv_bytes(config: &ModelConfig, tokens: usize) -> u64 {
        let kept = |kind: &LayerType| match kind {
            LayerType::SlidingAttention => tokens.min(config.sliding_window),
            _ => tokens,
        };
        let per_layer = config.layer_types.iter().zip(&config.num_kv_heads);
        per_layer.map(|(kind, kv_heads)| (4 * kept(kind) * kv_heads * config.head_dim) as u64).sum()
    }
}

/// Keys that the token at `position` sees, itself included.
fn visible_keys(config: &ModelConfig, kind: LayerType, position: usize) -> usize {
    match kind {
        LayerType::FullAttention => position + 1,
        LayerType::SlidingAttention => (position + 1).min(config.sliding_window),
        LayerType::BlockSparseAttention => {
            let whole = config.block_sparse.reach() - KEY_BLOCK + position % KEY_BLOCK + 1;
            (position + 1).min(whole)
        }
    }
}
