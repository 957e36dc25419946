//! What the tests of this crate share: goldens, a source of made-up weights, a small vocabulary.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use shakti_kernels::blocks::DType;
use shakti_model::{
    BlockSparse, LayerType, ModelConfig, NormType, ParamSpec, TensorData, TensorSource, preset,
};
use shakti_tokenizer::Tokenizer;

/// The folder of recorded outputs of second implementations.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}

/// Weights that follow from the tensor's name: the same bits whenever they are asked for.
pub struct MadeUp;

impl MadeUp {
    pub fn values(spec: &ParamSpec) -> Vec<f32> {
        let mut state = spec.name.bytes().fold(7u64, |s, b| s.wrapping_mul(31).wrapping_add(b.into()));
        (0..spec.num_elements())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .collect()
    }
}

impl TensorSource for MadeUp {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let bytes = Self::values(spec).iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(TensorData { dtype: DType::F32, bytes: Cow::Owned(bytes) })
    }
}

/// Plain: uniform KV heads, dense attention.
pub fn plain_config() -> ModelConfig {
    let mut config = preset("shakti-nano").expect("a preset");
    config.num_hidden_layers = 2;
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.num_attention_heads = 4;
    config.head_dim = 16;
    config.vocab_size = 300;
    config.num_kv_heads = vec![2; 2];
    config.layer_types = vec![LayerType::FullAttention; 2];
    config.sliding_window = config.max_position_embeddings;
    config.bos_token_id = Some(0);
    config.eos_token_ids = vec![1, 6];
    config.pad_token_id = Some(2);
    // Only training asks for it, and GGUF has no key for it.
    config.initializer_range = 0.02;
    config
}

/// Everything a GGUF file must carry that a Llama does not have.
pub fn variant_config() -> ModelConfig {
    let mut config = plain_config();
    config.num_hidden_layers = 3;
    config.num_kv_heads = vec![4, 2, 1];
    config.layer_types =
        vec![LayerType::SlidingAttention, LayerType::BlockSparseAttention, LayerType::FullAttention];
    config.sliding_window = 48;
    config.block_sparse = BlockSparse { local_blocks: 2, random_blocks: 1, seed: u64::MAX - 5 };
    config.tie_word_embeddings = false;
    config
}

/// LayerNorm and biases on every linear layer.
pub fn biased_config() -> ModelConfig {
    let mut config = variant_config();
    config.norm_type = NormType::LayerNorm;
    config.attention_bias = true;
    config.mlp_bias = true;
    config
}

/// A `tokenizer.json`: our seven special tokens, the 256 bytes in the alphabet of byte-level BPE, one merge.
pub fn tokenizer_json() -> String {
    let special = ["<|bos|>", "<|eos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"];
    let mut vocab = serde_json::Map::new();
    let mut add = |token: String| vocab.insert(token, vocab.len().into());
    special.iter().for_each(|token| drop(add((*token).to_owned())));
    let mut unprintable = 0x100u32..;
    for byte in 0..=255u32 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable { Some(byte) } else { unprintable.next() };
        code.and_then(char::from_u32).map(|c| add(c.to_string()));
    }
    add("th".to_owned());
    let added: Vec<_> = special
        .iter()
        .enumerate()
        .map(|(id, token)| {
            serde_json::json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [["t", "h"]],
        },
    })
    .to_string()
}

/// Its companion, with a chat template.
pub const TOKENIZER_CONFIG: &str = r#"{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>",
    "eos_token": "<|eos|>", "pad_token": "<|pad|>", "chat_template": "{{ messages }}"}"#;

/// Both, opened.
pub fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(&tokenizer_json(), TOKENIZER_CONFIG).expect("a valid vocabulary")
}

/// Every tensor of `config` is the same bytes in both sources.
pub fn assert_same_tensors(config: &ModelConfig, left: &dyn TensorSource, right: &dyn TensorSource) {
    for spec in config.parameters() {
        let (a, b) = (left.tensor(&spec).expect("left"), right.tensor(&spec).expect("right"));
        assert_eq!(a.dtype, b.dtype, "{}", spec.name);
        assert!(a.bytes == b.bytes, "{} differs", spec.name);
    }
}
