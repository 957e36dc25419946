//! A `ModelConfig` from the metadata of a GGUF file. Keys that change the function are implemented or refused with
//! their value; keys of the architecture that are not known here are refused by name.

use std::path::Path;

use shakti_gguf::{GgufFile, Value};
use shakti_model::{BlockSparse, Heads, KEY_BLOCK, LayerType, ModelConfig, NormType};

use super::vocabulary::{BOS_KEY, EOS_KEYS, PAD_KEY};
use super::{
    BLOCK_SIZE_KEY, EOS_TOKEN_IDS_KEY, GLOBAL_BLOCKS_KEY, LAYER_TYPES_KEY, LOCAL_BLOCKS_KEY, NORM_TYPE_KEY,
    RANDOM_BLOCKS_KEY, SEED_KEY, SLIDING_WINDOW_KEY,
};
use crate::CheckpointError;

/// Most layers that a file may claim.
const MAX_LAYERS: u64 = 4096;

/// Keys of the architecture that are read by [`Reader::config`].
const READ: [&str; 13] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
];

/// Keys of the architecture that change nothing.
const INERT: [&str; 5] = [
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "attention.layer_norm_epsilon",
    "attention.group_norm_epsilon",
    "tensor_data_layout",
];

/// Keys of the architecture that must hold this number because no other value is implemented.
const FIXED: [(&str, f64); 11] = [
    ("rope.scaling.factor", 1.0),
    ("rope.scaling.attn_factor", 1.0),
    ("rope.scale_linear", 1.0),
    ("expert_count", 0.0),
    ("expert_used_count", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.causal", 1.0),
    ("use_parallel_residual", 0.0),
    ("logit_scale", 1.0),
    ("embedding_scale", 1.0),
];

/// Reads the configuration of a file whose architecture is "llama" or "deci".
pub(super) fn read_config(file: &GgufFile, path: &Path) -> Result<ModelConfig, CheckpointError> {
    let architecture = file.require_str("general.architecture")?;
    if !["llama", "deci"].contains(&architecture) {
        let expected = "llama or deci";
        return Err(CheckpointError::metadata(path, "general.architecture", expected, architecture));
    }
    if let Some(other) = file.str("general.type")?.filter(|kind| *kind != "model") {
        return Err(CheckpointError::metadata(path, "general.type", "model", other));
    }
    if let Some(parts) = file.u64("split.count")?.filter(|parts| *parts > 1) {
        let expected = "a file that is whole (join the parts first)";
        return Err(CheckpointError::metadata(path, "split.count", expected, parts));
    }
    let reader = Reader { file, path, architecture };
    reader.refuse_unknown()?;
    let config = reader.config()?;
    let invalid = |source| CheckpointError::Config { path: path.to_path_buf(), source };
    config.validate().map_err(invalid)?;
    Ok(config)
}

struct Reader<'a> {
    file: &'a GgufFile,
    path: &'a Path,
    architecture: &'a str,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn wrong(&self, key: &str, expected: impl Into<String>, found: impl ToString) -> CheckpointError {
        CheckpointError::metadata(self.path, key, expected, found)
    }

    fn require(&self, name: &str) -> Result<usize, CheckpointError> {
        let key = self.key(name);
        let value = self.file.require_u64(&key)?;
        usize::try_from(value).map_err(|_| self.wrong(&key, "a size", value))
    }

    fn optional(&self, name: &str) -> Result<Option<usize>, CheckpointError> {
        if self.file.get(&self.key(name)).is_none() { Ok(None) } else { self.require(name).map(Some) }
    }

    /// Every key under the architecture's name must be read, inert, or hold its one implemented value.
    fn refuse_unknown(&self) -> Result<(), CheckpointError> {
        let prefix = self.key("");
        for (key, value) in self.file.metadata() {
            let Some(name) = key.strip_prefix(&prefix) else { continue };
            if READ.contains(&name) || INERT.contains(&name) {
                continue;
            }
            let found = describe(&value);
            let Some((_, only)) = FIXED.iter().find(|(fixed, _)| *fixed == name) else {
                return Err(self.wrong(key, "a key whose effect is known here", found));
            };
            let number = value.as_f64().or(value.as_i64().map(|v| v as f64));
            if number.or(value.as_bool().map(f64::from)) != Some(*only) {
                return Err(self.wrong(key, format!("{only} (no other value is implemented)"), found));
            }
        }
        Ok(())
    }

    fn config(&self) -> Result<ModelConfig, CheckpointError> {
        let num_hidden_layers = self.num_layers()?;
        let hidden_size = self.require("embedding_length")?;
        let num_attention_heads = self.same_in_all_layers("attention.head_count", num_hidden_layers)?;
        let head_dim = self.head_dim(hidden_size, num_attention_heads)?;
        let max_position_embeddings = self.require("context_length")?;
        let sliding_window = self.shakti_usize(SLIDING_WINDOW_KEY)?;
        let layer_types = self.layer_types(num_hidden_layers, sliding_window.is_some())?;
        let num_kv_heads = match self.file.get(&self.key("attention.head_count_kv")) {
            Some(_) => self.per_layer("attention.head_count_kv", num_hidden_layers)?,
            None => vec![num_attention_heads; num_hidden_layers],
        };
        let vocab_size = self.vocab_size()?;
        Ok(ModelConfig {
            hidden_size,
            intermediate_size: self.same_in_all_layers("feed_forward_length", num_hidden_layers)?,
            num_hidden_layers,
            num_attention_heads,
            num_kv_heads,
            head_dim,
            vocab_size,
            max_position_embeddings,
            norm_eps: self.file.require_f64(&self.key("attention.layer_norm_rms_epsilon"))? as f32,
            norm_type: self.norm_type()?,
            rope_theta: self.rope_theta()?,
            tie_word_embeddings: self.file.tensor("output.weight").is_none(),
            layer_types,
            sliding_window: sliding_window.unwrap_or(max_position_embeddings),
            block_sparse: self.block_sparse()?,
            attention_bias: self.has_any(&["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"]),
            mlp_bias: self.has_any(&["ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"]),
            hidden_dropout: 0.0,
            initializer_range: 0.02,
            heads: Heads::Vocabulary,
            bos_token_id: self.token_id(BOS_KEY, vocab_size)?,
            eos_token_ids: self.eos_token_ids(vocab_size)?,
            // Nothing is computed from it, and some converters write a number outside the vocabulary.
            pad_token_id: self.file.u64(PAD_KEY)?.filter(|id| *id < vocab_size as u64).map(|id| id as u32),
        })
    }

    fn num_layers(&self) -> Result<usize, CheckpointError> {
        let key = self.key("block_count");
        let layers = self.file.require_u64(&key)?;
        if layers == 0 || layers > MAX_LAYERS {
            return Err(self.wrong(&key, format!("1 to {MAX_LAYERS}"), layers));
        }
        Ok(layers as usize)
    }

    /// A number for all layers, or an array with one for each.
    fn per_layer(&self, name: &str, layers: usize) -> Result<Vec<usize>, CheckpointError> {
        let key = self.key(name);
        let Some(array) = self.file.get(&key).and_then(|value| value.as_array()) else {
            return Ok(vec![self.require(name)?; layers]);
        };
        if array.len() != layers {
            let expected = format!("{layers} numbers, one a layer");
            return Err(self.wrong(&key, expected, format!("{} numbers", array.len())));
        }
        let values = array.to_i64s().map_err(|e| e.in_file(self.path))?;
        let size = |value: &i64| usize::try_from(*value).map_err(|_| self.wrong(&key, "sizes", value));
        values.iter().map(size).collect()
    }

    fn same_in_all_layers(&self, name: &str, layers: usize) -> Result<usize, CheckpointError> {
        let values = self.per_layer(name, layers)?;
        match values.iter().find(|value| **value != values[0]) {
            None => Ok(values[0]),
            Some(_) => {
                let found = format!("{values:?}");
                Err(self.wrong(
                    &self.key(name),
                    "the same number in every layer (no other is implemented)",
                    found,
                ))
            }
        }
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize, CheckpointError> {
        let head_dim = match self.optional("attention.key_length")? {
            Some(head_dim) => head_dim,
            None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => return self.require("attention.key_length"),
        };
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = self.optional(name)?.filter(|other| *other != head_dim) {
                let expected = format!("{head_dim}, the length of keys (no other is implemented)");
                return Err(self.wrong(&self.key(name), expected, other));
            }
        }
        Ok(head_dim)
    }

    fn rope_theta(&self) -> Result<f64, CheckpointError> {
        let key = self.key("rope.scaling.type");
        if let Some(kind) = self.file.str(&key)?.filter(|kind| !["none", "linear"].contains(kind)) {
            return Err(self.wrong(&key, "none, or linear by 1 (no other scaling is implemented)", kind));
        }
        // The default of llama.cpp.
        Ok(self.file.f64(&self.key("rope.freq_base"))?.unwrap_or(10_000.0))
    }

    /// Rows of the embedding table; what else the file says about the vocabulary must agree.
    fn vocab_size(&self) -> Result<usize, CheckpointError> {
        let table = self.file.require_tensor("token_embd.weight")?;
        let rows = table.dims().get(1).copied().unwrap_or(0);
        if let Some(size) = self.file.u64(&self.key("vocab_size"))?.filter(|size| *size != rows) {
            return Err(self.wrong(
                &self.key("vocab_size"),
                format!("{rows}, the rows of token_embd.weight"),
                size,
            ));
        }
        let key = "tokenizer.ggml.tokens";
        if let Some(tokens) = self.file.array(key)?.filter(|tokens| tokens.len() as u64 != rows) {
            let found = format!("{} tokens", tokens.len());
            return Err(self.wrong(
                key,
                format!("{rows} tokens, one for each row of token_embd.weight"),
                found,
            ));
        }
        usize::try_from(rows).map_err(|_| self.wrong(&self.key("vocab_size"), "a size", rows))
    }

    fn token_id(&self, key: &str, vocab_size: usize) -> Result<Option<u32>, CheckpointError> {
        let Some(id) = self.file.u64(key)? else { return Ok(None) };
        match u32::try_from(id).ok().filter(|id| (*id as usize) < vocab_size) {
            Some(id) => Ok(Some(id)),
            None => Err(self.wrong(key, format!("below {vocab_size}"), id)),
        }
    }

    /// Our list, else end of text, of a turn, of a message: all end a generation.
    fn eos_token_ids(&self, vocab_size: usize) -> Result<Vec<u32>, CheckpointError> {
        if let Some(list) = self.file.array(EOS_TOKEN_IDS_KEY)? {
            let ids = list.to_i64s().map_err(|e| e.in_file(self.path))?;
            let id =
                |id: &i64| u32::try_from(*id).map_err(|_| self.wrong(EOS_TOKEN_IDS_KEY, "token ids", id));
            return ids.iter().map(id).collect();
        }
        let mut ids = Vec::new();
        for key in EOS_KEYS {
            let id = self.token_id(key, vocab_size)?;
            ids.extend(id.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }

    fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.file.tensor(&format!("blk.0.{name}")).is_some())
    }

    fn norm_type(&self) -> Result<NormType, CheckpointError> {
        match self.file.str(NORM_TYPE_KEY)? {
            None | Some("rms_norm") => Ok(NormType::RmsNorm),
            Some("layer_norm") => Ok(NormType::LayerNorm),
            Some(other) => Err(self.wrong(NORM_TYPE_KEY, "rms_norm or layer_norm", other)),
        }
    }

    fn layer_types(&self, layers: usize, has_window: bool) -> Result<Vec<LayerType>, CheckpointError> {
        let Some(array) = self.file.array(LAYER_TYPES_KEY)? else {
            return Ok(vec![LayerType::FullAttention; layers]);
        };
        if array.len() != layers {
            let expected = format!("{layers} names, one a layer");
            return Err(self.wrong(LAYER_TYPES_KEY, expected, format!("{} names", array.len())));
        }
        let mut kinds = Vec::with_capacity(layers);
        for name in array.strings().map_err(|e| e.in_file(self.path))? {
            let name = name.map_err(|e| e.in_file(self.path))?;
            let expected = "full_attention, sliding_attention or block_sparse_attention";
            kinds
                .push(LayerType::from_name(name).ok_or_else(|| self.wrong(LAYER_TYPES_KEY, expected, name))?);
        }
        if kinds.contains(&LayerType::SlidingAttention) && !has_window {
            return Err(self.wrong(SLIDING_WINDOW_KEY, "a window for the sliding layers", "none"));
        }
        Ok(kinds)
    }

    fn block_sparse(&self) -> Result<BlockSparse, CheckpointError> {
        for (key, only) in [(BLOCK_SIZE_KEY, KEY_BLOCK), (GLOBAL_BLOCKS_KEY, 1)] {
            if let Some(other) = self.shakti_usize(key)?.filter(|value| *value != only) {
                return Err(self.wrong(key, format!("{only} (no other value is implemented)"), other));
            }
        }
        let default = BlockSparse::default();
        Ok(BlockSparse {
            local_blocks: self.shakti_usize(LOCAL_BLOCKS_KEY)?.unwrap_or(default.local_blocks),
            random_blocks: self.shakti_usize(RANDOM_BLOCKS_KEY)?.unwrap_or(default.random_blocks),
            seed: self.file.u64(SEED_KEY)?.unwrap_or(default.seed),
        })
    }

    fn shakti_usize(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        let Some(value) = self.file.u64(key)? else { return Ok(None) };
        usize::try_from(value).map(Some).map_err(|_| self.wrong(key, "a size", value))
    }
}

fn describe(value: &Value<'_>) -> String {
    match value {
        Value::Array(array) => format!("an array of {}", array.len()),
        Value::String(text) => format!("`{}`", text.escape_debug()),
        other => format!("{other:?}"),
    }
}
