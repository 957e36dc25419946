//! The configuration of a decoder, with the names of Hugging Face's `config.json`.
//!
//! Keys that change the function are implemented or refused with their value; a listed set of inert keys
//! passes; any other key is refused by name (see [`json`]).
//!
//! Letters used in this crate: `N` rows (tokens of one call, all sequences), `D` hidden_size, `H`
//! num_attention_heads, `K` KV heads of a layer, `Hd` head_dim, `F` intermediate_size, `V` vocab_size.

mod json;
mod presets;
#[cfg(test)]
mod tests;

use crate::ModelError;
pub use presets::{PRESETS, preset};

/// Which keys a layer's queries see (`layer_types` of `config.json`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerType {
    /// Every earlier token.
    FullAttention,
    /// The last `sliding_window` tokens, the current one included (arXiv 2004.05150).
    SlidingAttention,
    /// Causal BigBird over blocks of 64 tokens (arXiv 2007.14062, see [`BlockSparse`]).
    BlockSparseAttention,
}

impl LayerType {
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullAttention => "full_attention",
            Self::SlidingAttention => "sliding_attention",
            Self::BlockSparseAttention => "block_sparse_attention",
        }
    }

    /// The inverse of [`LayerType::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::FullAttention, Self::SlidingAttention, Self::BlockSparseAttention]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Normalisation before each branch and after the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormType {
    /// `x / rms(x) * weight` (arXiv 1910.07467).
    RmsNorm,
    /// `(x - mean) / std * weight + bias` (arXiv 1607.06450).
    LayerNorm,
}

/// Parameters of block-sparse attention; a block holds 64 tokens counted from the document's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSparse {
    /// Earlier neighbouring blocks that a query block sees, besides itself.
    pub local_blocks: usize,
    /// Earlier blocks drawn without replacement.
    pub random_blocks: usize,
    /// Seed of the drawing.
    pub seed: u64,
}

impl BlockSparse {
    /// Most keys that one query sees: the global block, itself, the local and the drawn ones.
    pub fn reach(&self) -> usize {
        crate::KEY_BLOCK * (2 + self.local_blocks + self.random_blocks)
    }
}

impl Default for BlockSparse {
    fn default() -> Self {
        Self { local_blocks: 3, random_blocks: 3, seed: 0 }
    }
}

/// Everything that determines the function of a decoder, given its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Width of the residual stream, `D`.
    pub hidden_size: usize,
    /// Width of the feed-forward branch, `F`.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads, `H`.
    pub num_attention_heads: usize,
    /// KV heads of each layer, `K`; one entry a layer, each divides `H` (variable GQA).
    pub num_kv_heads: Vec<usize>,
    /// Width of one head, `Hd`.
    pub head_dim: usize,
    /// Number of token ids, `V`.
    pub vocab_size: usize,
    /// Tokens the model was trained for.
    pub max_position_embeddings: usize,
    /// Added to the mean square (or variance) inside the square root.
    pub norm_eps: f32,
    /// RMSNorm or LayerNorm.
    pub norm_type: NormType,
    /// Base of the rotary angles (arXiv 2104.09864).
    pub rope_theta: f64,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// What is on top of the last norm.
    pub heads: Heads,
    /// Attention pattern of each layer.
    pub layer_types: Vec<LayerType>,
    /// Keys visible in sliding layers, the current one included; in tokens. `max_position_embeddings` where no
    /// layer slides.
    pub sliding_window: usize,
    /// Pattern of block-sparse layers.
    pub block_sparse: BlockSparse,
    /// Whether the q, k, v and o projections have biases.
    pub attention_bias: bool,
    /// Whether the gate, up and down projections have biases.
    pub mlp_bias: bool,
    /// Probability of dropping an element of a branch's output in training.
    pub hidden_dropout: f32,
    /// Standard deviation of the initial weights.
    pub initializer_range: f32,
    /// First token of a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a generation.
    pub eos_token_ids: Vec<u32>,
    /// Padding token.
    pub pad_token_id: Option<u32>,
}

/// What a decoder has on top of its last norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heads {
    /// Scores of every token of the vocabulary: a language model.
    #[default]
    Vocabulary,
    /// One score for each position (`score.weight`, Transformers' `LlamaForSequenceClassification` with one label): a reward
    /// model, which writes no text.
    Score,
    /// Both: a policy that also estimates values, while it is trained.
    Both,
}

/// Name and shape of one parameter, in the order of the state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// Hugging Face state-dict name.
    pub name: String,
    /// `[out_features, in_features]` or `[features]`.
    pub shape: Vec<usize>,
}

impl ParamSpec {
    /// Number of elements.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// Names the key that is missing, unusable or unknown.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        json::read(text)
    }

    /// Writes `config.json`; a plain model (uniform KV heads, dense attention, RMSNorm) is written as
    /// Transformers' `LlamaForCausalLM`.
    pub fn to_json(&self) -> String {
        json::write(self)
    }

    /// The same without a score head: a model that writes.
    ///
    /// # Errors
    /// [`ModelError::RewardModel`] if it has no other.
    pub fn language(self) -> Result<Self, ModelError> {
        match self.heads {
            Heads::Score => Err(ModelError::RewardModel),
            Heads::Vocabulary | Heads::Both => Ok(Self { heads: Heads::Vocabulary, ..self }),
        }
    }

    /// Whether Transformers and llama.cpp compute the same function from `LlamaForCausalLM` alone.
    pub fn is_plain(&self) -> bool {
        self.has_uniform_kv_heads()
            && self.norm_type == NormType::RmsNorm
            && self.layer_types.iter().all(|kind| *kind == LayerType::FullAttention)
    }

    /// Whether every layer has the same number of KV heads.
    pub fn has_uniform_kv_heads(&self) -> bool {
        self.num_kv_heads.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Tokens up to which dense attention computes the same function as this model's pattern, if any
    /// layer is not dense.
    pub fn dense_equivalent_length(&self) -> Option<usize> {
        self.layer_types
            .iter()
            .filter_map(|kind| match kind {
                LayerType::FullAttention => None,
                LayerType::SlidingAttention => Some(self.sliding_window),
                LayerType::BlockSparseAttention => Some(self.block_sparse.reach()),
            })
            .min()
    }

    /// The parameters in state-dict order.
    pub fn parameters(&self) -> Vec<ParamSpec> {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_attention_heads * self.head_dim;
        let mut specs = Vec::new();
        let mut push = |name: String, shape: &[usize]| specs.push(ParamSpec { name, shape: shape.to_vec() });
        push("model.embed_tokens.weight".into(), &[self.vocab_size, d]);
        let has_bias = self.norm_type == NormType::LayerNorm;
        for (index, &kv_heads) in self.num_kv_heads.iter().enumerate() {
            let mut layer = |name: &str, shape: &[usize]| push(format!("model.layers.{index}.{name}"), shape);
            let keys = kv_heads * self.head_dim;
            let linears = [
                ("self_attn.q_proj", queries, d, self.attention_bias),
                ("self_attn.k_proj", keys, d, self.attention_bias),
                ("self_attn.v_proj", keys, d, self.attention_bias),
                ("self_attn.o_proj", d, queries, self.attention_bias),
                ("mlp.gate_proj", f, d, self.mlp_bias),
                ("mlp.up_proj", f, d, self.mlp_bias),
                ("mlp.down_proj", d, f, self.mlp_bias),
            ];
            for (name, out_features, in_features, bias) in linears {
                layer(&format!("{name}.weight"), &[out_features, in_features]);
                if bias {
                    layer(&format!("{name}.bias"), &[out_features]);
                }
            }
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                layer(&format!("{norm}.weight"), &[d]);
                if has_bias {
                    layer(&format!("{norm}.bias"), &[d]);
                }
            }
        }
        push("model.norm.weight".into(), &[d]);
        if has_bias {
            push("model.norm.bias".into(), &[d]);
        }
        if !self.tie_word_embeddings && self.heads != Heads::Score {
            push("lm_head.weight".into(), &[self.vocab_size, d]);
        }
        if self.heads != Heads::Vocabulary {
            push("score.weight".into(), &[1, d]);
        }
        specs
    }

    /// Checks what no single key shows.
    ///
    /// # Errors
    /// Names the first key whose value contradicts another.
    pub fn validate(&self) -> Result<(), ModelError> {
        let sizes = [
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 22),
            ("num_hidden_layers", self.num_hidden_layers, 4096),
            ("num_attention_heads", self.num_attention_heads, 4096),
            ("head_dim", self.head_dim, 4096),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 30),
            ("sliding_window", self.sliding_window, 1 << 30),
        ];
        for (key, value, limit) in sizes {
            if value == 0 || value > limit {
                return Err(ModelError::bad(key, format!("1 to {limit}"), value));
            }
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::bad("head_dim", "an even number (rotary pairs)", self.head_dim));
        }
        self.validate_lists()?;
        for (key, value) in [("rms_norm_eps", f64::from(self.norm_eps)), ("rope_theta", self.rope_theta)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(ModelError::bad(key, "a positive number", value));
            }
        }
        if !(0.0..1.0).contains(&self.hidden_dropout) {
            return Err(ModelError::bad(
                "hidden_dropout",
                "0 up to but not including 1",
                self.hidden_dropout,
            ));
        }
        let ids = self.bos_token_id.iter().chain(&self.eos_token_ids).chain(&self.pad_token_id);
        if let Some(id) = ids.into_iter().find(|id| **id as usize >= self.vocab_size) {
            return Err(ModelError::bad("*_token_id", format!("below vocab_size {}", self.vocab_size), id));
        }
        Ok(())
    }

    fn validate_lists(&self) -> Result<(), ModelError> {
        let layers = self.num_hidden_layers;
        for (key, len) in [("num_kv_heads", self.num_kv_heads.len()), ("layer_types", self.layer_types.len())]
        {
            if len != layers {
                return Err(ModelError::bad(
                    key,
                    format!("{layers} entries, one a layer"),
                    format!("{len} entries"),
                ));
            }
        }
        for &kv_heads in &self.num_kv_heads {
            if kv_heads == 0 || !self.num_attention_heads.is_multiple_of(kv_heads) {
                let expected = format!("divisors of num_attention_heads {}", self.num_attention_heads);
                return Err(ModelError::bad("num_key_value_heads", expected, kv_heads));
            }
        }
        if self.block_sparse.local_blocks > 1024 || self.block_sparse.random_blocks > 1024 {
            return Err(ModelError::bad(
                "block_sparse",
                "at most 1024 blocks of a kind",
                format!("{:?}", self.block_sparse),
            ));
        }
        Ok(())
    }
}
