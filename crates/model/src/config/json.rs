//! `config.json` in and out: every key is read, inert by name, or refused.

use serde_json::{Map, Value, json};

use super::{BlockSparse, Heads, LayerType, ModelConfig, NormType};
use crate::{KEY_BLOCK, ModelError};

/// Keys that do not change what the model computes.
const INERT: &[&str] = &[
    "_name_or_path",
    "dtype",
    "name",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "_attn_implementation",
    "output_attentions",
    "output_hidden_states",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
    "label2id",
    "problem_type",
];

/// Keys that must hold one value because no other is implemented.
const FIXED: &[(&str, &str)] = &[
    ("hidden_act", "\"silu\""),
    ("attention_dropout", "0"),
    ("pretraining_tp", "1"),
    ("partial_rotary_factor", "1"),
    ("rope_scaling", "null"),
    ("quantization_config", "null"),
];

/// Ends of class names.
const CLASSIFIER: &str = "ForSequenceClassification";
const VALUE_HEAD: &str = "ForCausalLMWithValueHead";

/// Takes keys out of the object one by one, so that what is left at the end is unknown.
struct Keys(Map<String, Value>);

impl Keys {
    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    fn usize(&mut self, key: &str) -> Result<Option<usize>, ModelError> {
        self.take(key).map(|value| as_usize(key, &value)).transpose()
    }

    fn required(&mut self, key: &str) -> Result<usize, ModelError> {
        self.usize(key)?.ok_or_else(|| ModelError::MissingKey { key: key.into() })
    }

    fn f64(&mut self, key: &str) -> Result<Option<f64>, ModelError> {
        self.take(key)
            .map(|value| value.as_f64().ok_or_else(|| ModelError::bad(key, "a number", &value)))
            .transpose()
    }

    fn bool(&mut self, key: &str) -> Result<Option<bool>, ModelError> {
        let value = self.take(key);
        value
            .map(|value| value.as_bool().ok_or_else(|| ModelError::bad(key, "true or false", &value)))
            .transpose()
    }

    fn string(&mut self, key: &str) -> Result<Option<String>, ModelError> {
        self.take(key)
            .map(|value| {
                value.as_str().map(String::from).ok_or_else(|| ModelError::bad(key, "a string", &value))
            })
            .transpose()
    }

    fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, ModelError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(ModelError::bad(key, "a list", other)),
        }
    }

    fn token_ids(&mut self, key: &str) -> Result<Vec<u32>, ModelError> {
        let values = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(single) => vec![single],
        };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        values
            .iter()
            .map(|value| id(value).ok_or_else(|| ModelError::bad(key, "a token id", value)))
            .collect()
    }

    fn token_id(&mut self, key: &str) -> Result<Option<u32>, ModelError> {
        Ok(self.token_ids(key)?.first().copied())
    }
}

fn as_usize(key: &str, value: &Value) -> Result<usize, ModelError> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| ModelError::bad(key, "a whole number", value))
}

pub(super) fn read(text: &str) -> Result<ModelConfig, ModelError> {
    let value: Value = serde_json::from_str(text).map_err(|error| ModelError::Json(error.to_string()))?;
    let Value::Object(map) = value else {
        return Err(ModelError::Json("expected a JSON object".into()));
    };
    let mut keys = Keys(map);
    let model_type = keys.string("model_type")?.unwrap_or_else(|| "llama".into());
    if !["llama", "shakti"].contains(&model_type.as_str()) {
        return Err(ModelError::bad("model_type", "llama or shakti", model_type));
    }
    let rope_theta = read_rope(&mut keys)?;
    refuse_unimplemented(&mut keys)?;
    let config = read_sizes(&mut keys, rope_theta)?;
    for key in INERT {
        keys.0.remove(*key);
    }
    if let Some((key, value)) = keys.0.into_iter().find(|(_, value)| !value.is_null()) {
        return Err(ModelError::UnknownKey { key, found: value.to_string() });
    }
    config.validate()?;
    Ok(config)
}

fn refuse_unimplemented(keys: &mut Keys) -> Result<(), ModelError> {
    for (key, only) in FIXED {
        let Some(value) = keys.take(key) else { continue };
        let expected: Value = serde_json::from_str(only).unwrap_or_default();
        let same_number = value.as_f64().is_some() && value.as_f64() == expected.as_f64();
        if value != expected && !same_number {
            return Err(ModelError::bad(key, format!("{only} (no other value is implemented)"), value));
        }
    }
    Ok(())
}

/// `rope_theta` at the top level (Transformers 4) or inside `rope_parameters` (Transformers 5).
fn read_rope(keys: &mut Keys) -> Result<f64, ModelError> {
    let mut theta = keys.f64("rope_theta")?;
    if let Some(Value::Object(inner)) = keys.take("rope_parameters") {
        let mut inner = Keys(inner);
        let kind = inner.string("rope_type")?.unwrap_or_else(|| "default".into());
        if kind != "default" {
            return Err(ModelError::bad("rope_parameters.rope_type", "default", kind));
        }
        theta = inner.f64("rope_theta")?.or(theta);
        inner.take("partial_rotary_factor").map_or(Ok(()), |value| {
            let whole = value.as_f64() == Some(1.0);
            whole
                .then_some(())
                .ok_or_else(|| ModelError::bad("rope_parameters.partial_rotary_factor", "1", value))
        })?;
        if let Some((key, value)) = inner.0.into_iter().next() {
            return Err(ModelError::UnknownKey {
                key: format!("rope_parameters.{key}"),
                found: value.to_string(),
            });
        }
    }
    // The default of Transformers' LlamaConfig.
    Ok(theta.unwrap_or(10_000.0))
}

fn read_sizes(keys: &mut Keys, rope_theta: f64) -> Result<ModelConfig, ModelError> {
    let num_hidden_layers = keys.required("num_hidden_layers")?;
    if num_hidden_layers > 4096 {
        return Err(ModelError::bad("num_hidden_layers", "1 to 4096", num_hidden_layers));
    }
    let hidden_size = keys.required("hidden_size")?;
    let num_attention_heads = keys.required("num_attention_heads")?;
    let head_dim = match keys.usize("head_dim")? {
        Some(head_dim) => head_dim,
        None if num_attention_heads > 0 && hidden_size.is_multiple_of(num_attention_heads) => {
            hidden_size / num_attention_heads
        }
        None => return Err(ModelError::MissingKey { key: "head_dim".into() }),
    };
    let norm_type = match keys.string("norm_type")?.as_deref() {
        None | Some("rms_norm") => NormType::RmsNorm,
        Some("layer_norm") => NormType::LayerNorm,
        Some(other) => return Err(ModelError::bad("norm_type", "rms_norm or layer_norm", other)),
    };
    let max_position_embeddings = keys.usize("max_position_embeddings")?.unwrap_or(2048);
    let sliding_window = keys.usize("sliding_window")?;
    let layer_types = read_layer_types(keys, num_hidden_layers, sliding_window.is_some())?;
    Ok(ModelConfig {
        hidden_size,
        intermediate_size: keys.required("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_kv_heads: read_kv_heads(keys, num_hidden_layers, num_attention_heads)?,
        head_dim,
        vocab_size: keys.required("vocab_size")?,
        max_position_embeddings,
        norm_eps: keys.f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        norm_type,
        rope_theta,
        tie_word_embeddings: keys.bool("tie_word_embeddings")?.unwrap_or(false),
        layer_types,
        sliding_window: sliding_window.unwrap_or(max_position_embeddings),
        block_sparse: read_block_sparse(keys)?,
        attention_bias: keys.bool("attention_bias")?.unwrap_or(false),
        mlp_bias: keys.bool("mlp_bias")?.unwrap_or(false),
        hidden_dropout: keys.f64("hidden_dropout")?.unwrap_or(0.0) as f32,
        initializer_range: keys.f64("initializer_range")?.unwrap_or(0.02) as f32,
        heads: read_heads(keys)?,
        bos_token_id: keys.token_id("bos_token_id")?,
        eos_token_ids: keys.token_ids("eos_token_id")?,
        pad_token_id: keys.token_id("pad_token_id")?,
    })
}

/// The end of the class name; a classifier must have one label.
fn read_heads(keys: &mut Keys) -> Result<Heads, ModelError> {
    let labels = match keys.take("id2label") {
        Some(Value::Object(labels)) => Some(labels.len()),
        _ => None,
    };
    let labels = keys.usize("num_labels")?.or(labels);
    let name = keys.list("architectures")?.and_then(|names| names.first().cloned());
    let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
    if name.ends_with(VALUE_HEAD) {
        return Ok(Heads::Both);
    }
    match (name.ends_with(CLASSIFIER), labels) {
        (false, _) => Ok(Heads::Vocabulary),
        (true, Some(1)) => Ok(Heads::Score),
        (true, labels) => {
            let found = labels.map_or("2 (no `id2label`)".into(), |labels| labels.to_string());
            Err(ModelError::bad("num_labels", "1 for a sequence classifier", found))
        }
    }
}

fn read_kv_heads(keys: &mut Keys, layers: usize, heads: usize) -> Result<Vec<usize>, ModelError> {
    let uniform = keys.usize("num_key_value_heads")?.unwrap_or(heads);
    match keys.list("num_kv_heads")? {
        None => Ok(vec![uniform; layers]),
        Some(items) => items.iter().map(|value| as_usize("num_kv_heads", value)).collect(),
    }
}

/// Without a list, a stated window applies to every layer.
fn read_layer_types(keys: &mut Keys, layers: usize, has_window: bool) -> Result<Vec<LayerType>, ModelError> {
    let Some(items) = keys.list("layer_types")? else {
        let kind = if has_window { LayerType::SlidingAttention } else { LayerType::FullAttention };
        return Ok(vec![kind; layers]);
    };
    let expected = "full_attention, sliding_attention or block_sparse_attention";
    let kind = |value: &Value| value.as_str().and_then(LayerType::from_name);
    let kinds: Vec<LayerType> = items
        .iter()
        .map(|value| kind(value).ok_or_else(|| ModelError::bad("layer_types", expected, value)))
        .collect::<Result<_, _>>()?;
    if kinds.contains(&LayerType::SlidingAttention) && !has_window {
        return Err(ModelError::MissingKey { key: "sliding_window".into() });
    }
    Ok(kinds)
}

fn read_block_sparse(keys: &mut Keys) -> Result<BlockSparse, ModelError> {
    let mut inner = match keys.take("block_sparse") {
        None => return Ok(BlockSparse::default()),
        Some(Value::Object(inner)) => Keys(inner),
        Some(other) => return Err(ModelError::bad("block_sparse", "an object", other)),
    };
    let default = BlockSparse::default();
    for (key, only) in [("block_size", KEY_BLOCK), ("global_blocks", 1)] {
        let value = inner.usize(key)?.unwrap_or(only);
        if value != only {
            return Err(ModelError::bad(&format!("block_sparse.{key}"), only.to_string(), value));
        }
    }
    let seed = inner.take("seed").map(|value| {
        value
            .as_u64()
            .ok_or_else(|| ModelError::bad("block_sparse.seed", "a whole number below 2^64", &value))
    });
    let pattern = BlockSparse {
        local_blocks: inner.usize("local_blocks")?.unwrap_or(default.local_blocks),
        random_blocks: inner.usize("random_blocks")?.unwrap_or(default.random_blocks),
        seed: seed.transpose()?.unwrap_or(default.seed),
    };
    match inner.0.into_iter().next() {
        Some((key, value)) => {
            Err(ModelError::UnknownKey { key: format!("block_sparse.{key}"), found: value.to_string() })
        }
        None => Ok(pattern),
    }
}

pub(super) fn write(config: &ModelConfig) -> String {
    let plain = config.is_plain();
    let eos = match config.eos_token_ids.as_slice() {
        [] => Value::Null,
        [single] => json!(single),
        several => json!(several),
    };
    let mut value = json!({
        "architectures": [architecture(config)],
        "attention_bias": config.attention_bias,
        "attention_dropout": 0.0,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": eos,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": shortest(config.initializer_range),
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "mlp_bias": config.mlp_bias,
        "model_type": if plain { "llama" } else { "shakti" },
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_kv_heads.iter().max(),
        "pad_token_id": config.pad_token_id,
        "rms_norm_eps": shortest(config.norm_eps),
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "vocab_size": config.vocab_size,
    });
    if config.hidden_dropout > 0.0 {
        value["hidden_dropout"] = json!(shortest(config.hidden_dropout));
    }
    if config.heads == Heads::Score {
        value["id2label"] = json!({ "0": "LABEL_0" });
        value["label2id"] = json!({ "LABEL_0": 0 });
    }
    if !plain {
        write_variant(config, &mut value);
    }
    format!("{value:#}\n")
}

/// The class that Transformers has for it, or would have.
fn architecture(config: &ModelConfig) -> String {
    let family = if config.is_plain() { "Llama" } else { "Shakti" };
    let end = match config.heads {
        Heads::Vocabulary => "ForCausalLM",
        Heads::Score => CLASSIFIER,
        Heads::Both => VALUE_HEAD,
    };
    format!("{family}{end}")
}

/// The keys that Transformers' Llama does not have.
fn write_variant(config: &ModelConfig, value: &mut Value) {
    if !config.has_uniform_kv_heads() {
        value["num_kv_heads"] = json!(config.num_kv_heads);
    }
    if config.norm_type == NormType::LayerNorm {
        value["norm_type"] = json!("layer_norm");
    }
    let types: Vec<&str> = config.layer_types.iter().map(|kind| kind.name()).collect();
    value["layer_types"] = json!(types);
    if config.layer_types.contains(&LayerType::SlidingAttention) {
        value["sliding_window"] = json!(config.sliding_window);
    }
    if config.layer_types.contains(&LayerType::BlockSparseAttention) {
        let BlockSparse { local_blocks, random_blocks, seed } = config.block_sparse;
        value["block_sparse"] = json!({
            "block_size": KEY_BLOCK, "global_blocks": 1, "local_blocks": local_blocks,
            "random_blocks": random_blocks, "seed": seed,
        });
    }
}

/// The decimal that reads back as the same f32, without the digits of its f64 image.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}
