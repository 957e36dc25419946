//! The models of arXiv 2503.01933 as configurations; where the paper is silent, our adopted values
//! (`docs/paper.md`).

use super::{BlockSparse, Heads, LayerType, ModelConfig, NormType};
use crate::ModelError;

/// Names that [`preset`] knows.
pub const PRESETS: [&str; 5] = ["shakti-nano", "shakti-100m", "shakti-250m", "shakti-500m", "shakti-2.5b"];

/// The configuration of a named model.
///
/// # Errors
/// [`ModelError::UnknownPreset`] lists the names there are.
pub fn preset(name: &str) -> Result<ModelConfig, ModelError> {
    match name {
        "shakti-nano" => Ok(nano()),
        "shakti-100m" => Ok(sliding_100m()),
        "shakti-250m" => Ok(sliding_250m()),
        "shakti-500m" => Ok(block_sparse_500m()),
        "shakti-2.5b" => Ok(dense_2_5b()),
        _ => Err(ModelError::UnknownPreset { name: name.into(), known: PRESETS.join(", ") }),
    }
}

fn base(layers: usize, hidden: usize, ffn: usize, heads: usize, head_dim: usize) -> ModelConfig {
    ModelConfig {
        hidden_size: hidden,
        intermediate_size: ffn,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_kv_heads: vec![heads; layers],
        head_dim,
        vocab_size: 64_000,
        max_position_embeddings: 4096,
        norm_eps: 1e-5,
        norm_type: NormType::RmsNorm,
        rope_theta: 500_000.0,
        tie_word_embeddings: true,
        layer_types: vec![LayerType::FullAttention; layers],
        sliding_window: 4096,
        block_sparse: BlockSparse::default(),
        attention_bias: false,
        mlp_bias: false,
        hidden_dropout: 0.0,
        initializer_range: 0.02,
        heads: Heads::Vocabulary,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        pad_token_id: None,
    }
}

/// `[outer, inner, ..., inner, outer]`: the first and last layer keep more KV heads.
fn outer_inner(layers: usize, outer: usize, inner: usize) -> Vec<usize> {
    let mut heads = vec![inner; layers];
    heads[0] = outer;
    heads[layers - 1] = outer;
    heads
}

fn nano() -> ModelConfig {
    let mut config = base(6, 256, 768, 8, 32);
    config.num_kv_heads = outer_inner(6, 4, 2);
    config.vocab_size = 4096;
    config.max_position_embeddings = 1024;
    config.sliding_window = 256;
    // 1 / sqrt(hidden_size): in runs of a million tokens, 0.02 was 0.14 nats behind after 300 steps (docs/experiments.md).
    config.initializer_range = 0.0625;
    config.layer_types = [LayerType::SlidingAttention, LayerType::BlockSparseAttention].repeat(3);
    config
}

fn sliding_100m() -> ModelConfig {
    let mut config = base(10, 640, 2560, 10, 64);
    config.num_kv_heads = outer_inner(10, 5, 2);
    config.layer_types = vec![LayerType::SlidingAttention; 10];
    config.sliding_window = 1024;
    config
}

fn sliding_250m() -> ModelConfig {
    let mut config = base(16, 1024, 2816, 16, 64);
    config.num_kv_heads = outer_inner(16, 8, 4);
    config.layer_types = vec![LayerType::SlidingAttention; 16];
    config.sliding_window = 1024;
    config
}

fn block_sparse_500m() -> ModelConfig {
    let mut config = base(24, 2048, 768, 16, 128);
    config.num_kv_heads = vec![4; 24];
    config.layer_types = vec![LayerType::BlockSparseAttention; 24];
    config
}

fn dense_2_5b() -> ModelConfig {
    let mut config = base(16, 4096, 4096, 32, 128);
    config.num_kv_heads = vec![8; 16];
    config.vocab_size = 128_256;
    config.tie_word_embeddings = false;
    config
}
