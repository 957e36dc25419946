//! A model said in the words of `LlamaForCausalLM`: one number of KV heads for all layers, dense attention.
//!
//! Where layers differ, the KV heads of each are repeated to the least common multiple of the list, which computes
//! the same function. Windows and block patterns have no words there; they are dropped, and the length up to which
//! that changes nothing is said.

use std::borrow::Cow;

use shakti_model::{LayerType, ModelConfig, NormType, ParamSpec, TensorData, TensorSource};

use crate::CheckpointError;
use crate::names::repeat_heads;

/// What the repetition of KV heads costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepetitionCost {
    /// KV heads of every layer afterwards.
    pub num_key_value_heads: usize,
    /// Parameters before and after.
    pub parameters: (u64, u64),
    /// Bytes that one token takes in an fp16 KV cache, before and after.
    pub kv_bytes_per_token: (u64, u64),
}

/// A source whose tensors are those of a plain Llama that computes the same function.
pub struct PlainModel<'a> {
    source: &'a dyn TensorSource,
    original: &'a ModelConfig,
    config: ModelConfig,
}

impl<'a> PlainModel<'a> {
    /// Prepares `source`, a model of `config`, for engines that know only `LlamaForCausalLM`.
    ///
    /// # Errors
    /// If the model normalises with LayerNorm, which that class cannot do.
    pub fn new(config: &'a ModelConfig, source: &'a dyn TensorSource) -> Result<Self, CheckpointError> {
        if config.norm_type == NormType::LayerNorm {
            let reason = "the model uses LayerNorm, LlamaForCausalLM only RMSNorm".to_owned();
            return Err(CheckpointError::NotExpressible { format: "hf", reason });
        }
        let kv_heads = config.num_kv_heads.iter().copied().fold(1, least_common_multiple);
        let mut plain = config.clone();
        plain.num_kv_heads = vec![kv_heads; config.num_hidden_layers];
        plain.layer_types = vec![LayerType::FullAttention; config.num_hidden_layers];
        Ok(Self { source, original: config, config: plain })
    }

    /// The configuration to write.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the repetition costs; `None` if nothing had to be repeated.
    pub fn cost(&self) -> Option<RepetitionCost> {
        let kv_heads = self.config.num_kv_heads.first().copied().unwrap_or(1);
        let parameters =
            |config: &ModelConfig| config.parameters().iter().map(|p| p.num_elements() as u64).sum();
        // Keys and values, two bytes each.
        let kv_bytes = |config: &ModelConfig| {
            let heads: usize = config.num_kv_heads.iter().sum();
            4 * (heads * config.head_dim) as u64
        };
        (self.original.num_kv_heads != self.config.num_kv_heads).then(|| RepetitionCost {
            num_key_value_heads: kv_heads,
            parameters: (parameters(self.original), parameters(&self.config)),
            kv_bytes_per_token: (kv_bytes(self.original), kv_bytes(&self.config)),
        })
    }

    /// What a user must know about the export, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(cost) = self.cost() {
            warnings.push(format!(
                "KV heads {:?} are repeated to {} in every layer, the same function at {} instead of {} parameters \
                 and {} instead of {} bytes of fp16 KV cache a token",
                self.original.num_kv_heads,
                cost.num_key_value_heads,
                cost.parameters.1,
                cost.parameters.0,
                cost.kv_bytes_per_token.1,
                cost.kv_bytes_per_token.0,
            ));
        }
        warnings.extend(dense_warning(self.original));
        warnings
    }
}

/// The sentence about windows and block patterns that other engines do not know, if the model has any.
pub(crate) fn dense_warning(config: &ModelConfig) -> Option<String> {
    let length =
        config.dense_equivalent_length().filter(|&length| length < config.max_position_embeddings)?;
    Some(format!(
        "other engines read every layer as dense attention and compute the same function up to {length} tokens only \
         (sliding windows and block patterns are known to shakti alone)"
    ))
}

impl TensorSource for PlainModel<'_> {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let Some((layer, true)) = kv_projection(&spec.name) else { return self.source.tensor(spec) };
        let heads = |config: &ModelConfig| config.num_kv_heads.get(layer).copied();
        let (Some(from), Some(to)) = (heads(self.original), heads(&self.config)) else {
            return Err(format!("no layer {layer}").into());
        };
        let mut stored = spec.clone();
        stored.shape[0] = from * self.original.head_dim;
        let data = self.source.tensor(&stored)?;
        if from == to {
            return Ok(data);
        }
        if !data.bytes.len().is_multiple_of(stored.shape[0]) {
            return Err(format!("{} bytes are not {} rows", data.bytes.len(), stored.shape[0]).into());
        }
        Ok(TensorData { dtype: data.dtype, bytes: Cow::Owned(repeat_heads(&data.bytes, from, to)) })
    }
}

/// The layer of a projection, and whether it makes keys or values.
fn kv_projection(name: &str) -> Option<(usize, bool)> {
    let (layer, stem) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let is_kv = ["self_attn.k_proj.", "self_attn.v_proj."].iter().any(|prefix| stem.starts_with(prefix));
    Some((layer.parse().ok()?, is_kv))
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b
}
