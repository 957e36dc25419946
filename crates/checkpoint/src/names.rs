//! The one place that knows two vocabularies: Hugging Face's state-dict names and GGUF's, and the two orders in
//! which the rows of query and key projections are stored.
//!
//! Rotary position embedding turns pairs of a head's elements. In memory and in safetensors the pair of element
//! `j` is `j + Hd/2` (half-split, Transformers' `rotate_half`); files of the GGUF architectures "llama" and "deci"
//! hold the same rows so that pairs are neighbours, `2j` and `2j + 1` (interleaved). Whole rows move, so the bytes
//! of a row, whatever its type, never change.
//!
//! Letters: `K` heads of the projection, `Hd` head_dim.

use shakti_model::ModelConfig;

/// GGUF names of tensors outside the layers, by state-dict name (without `.weight` or `.bias`).
const GLOBAL: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// GGUF names of a layer's tensors, after `blk.{i}.`, by state-dict name after `model.layers.{i}.`.
const LAYER: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// `model.layers.{i}.` in the state dict, `blk.{i}.` in GGUF.
const LAYER_PREFIX: (&str, &str) = ("model.layers.", "blk.");

/// The GGUF name of a state-dict name; `None` if the model has no such tensor.
pub fn gguf_name(hf_name: &str) -> Option<String> {
    translate(hf_name, LAYER_PREFIX, |&(hf, gguf)| (hf, gguf))
}

/// The state-dict name of a GGUF name; `None` if the model has no such tensor.
pub fn hf_name(gguf_name: &str) -> Option<String> {
    let (hf, gguf) = LAYER_PREFIX;
    translate(gguf_name, (gguf, hf), |&(hf, gguf)| (gguf, hf))
}

fn translate(
    name: &str,
    (from_prefix, to_prefix): (&str, &str),
    direction: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.').filter(|(_, kind)| ["weight", "bias"].contains(kind))?;
    let find = |table: &[(&'static str, &'static str)], stem: &str| {
        table.iter().map(&direction).find(|(from, _)| *from == stem).map(|(_, to)| to)
    };
    match stem.strip_prefix(from_prefix) {
        Some(rest) => {
            let (index, stem) = rest.split_once('.')?;
            // One spelling per layer: no signs, no leading zeros.
            let layer: u32 = index.parse().ok().filter(|layer: &u32| layer.to_string() == index)?;
            Some(format!("{to_prefix}{layer}.{}.{kind}", find(&LAYER, stem)?))
        }
        None => Some(format!("{}.{kind}", find(&GLOBAL, stem)?)),
    }
}

/// How the rows of a projection of `heads * head_dim` rows are arranged inside each head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotaryRows {
    /// Heads of this projection: query heads, or the KV heads of the layer.
    pub heads: usize,
    /// Rows of a head, `Hd`, even.
    pub head_dim: usize,
}

impl RotaryRows {
    /// The arrangement of a tensor's rows, if they are queries or keys: those whose order differs in GGUF.
    pub fn of(config: &ModelConfig, hf_name: &str) -> Option<Self> {
        let (layer, stem) = hf_name.strip_prefix(LAYER_PREFIX.0)?.split_once('.')?;
        let heads = match stem.rsplit_once('.')?.0 {
            "self_attn.q_proj" => config.num_attention_heads,
            "self_attn.k_proj" => *config.num_kv_heads.get(layer.parse::<usize>().ok()?)?,
            _ => return None,
        };
        Some(Self { heads, head_dim: config.head_dim })
    }

    /// Rows `[heads * Hd, row_bytes]` from half-split order to the interleaved order of GGUF.
    ///
    /// # Panics
    /// If `rows` is not `heads * Hd` rows.
    pub fn interleave(&self, rows: &[u8]) -> Vec<u8> {
        let half = self.head_dim / 2;
        self.rearrange(rows, |row| if row < half { 2 * row } else { 2 * (row - half) + 1 })
    }

    /// Rows `[heads * Hd, row_bytes]` from the interleaved order of GGUF to half-split order.
    ///
    /// # Panics
    /// If `rows` is not `heads * Hd` rows.
    pub fn split_halves(&self, rows: &[u8]) -> Vec<u8> {
        let half = self.head_dim / 2;
        self.rearrange(rows, |row| row / 2 + half * (row % 2))
    }

    /// Moves row `r` of each head to `target(r)`.
    fn rearrange(&self, rows: &[u8], target: impl Fn(usize) -> usize) -> Vec<u8> {
        let num_rows = self.heads * self.head_dim;
        assert!(num_rows > 0 && rows.len().is_multiple_of(num_rows), "whole rows of {self:?}");
        let row_bytes = rows.len() / num_rows;
        let mut out = vec![0; rows.len()];
        if row_bytes == 0 {
            return out;
        }
        let head_bytes = self.head_dim * row_bytes;
        for (from, to) in rows.chunks_exact(head_bytes).zip(out.chunks_exact_mut(head_bytes)) {
            for (index, row) in from.chunks_exact(row_bytes).enumerate() {
                let start = target(index) * row_bytes;
                to[start..start + row_bytes].copy_from_slice(row);
            }
        }
        out
    }
}

/// Rows of `[K * Hd, row_bytes]` with every head repeated, so that the projection has `to` heads and each query head
/// still meets the keys (or values) it met before.
///
/// # Panics
/// If `rows` is not `from * head_dim` rows or `to` is no multiple of `from`.
pub fn repeat_heads(rows: &[u8], from: usize, to: usize) -> Vec<u8> {
    assert!(from > 0 && to.is_multiple_of(from) && rows.len().is_multiple_of(from), "{from} heads to {to}");
    let mut out = Vec::with_capacity(rows.len() * (to / from));
    for head in rows.chunks_exact((rows.len() / from).max(1)) {
        (0..to / from).for_each(|_| out.extend_from_slice(head));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{RotaryRows, gguf_name, hf_name, repeat_heads};

    #[test]
    fn names_translate_both_ways() {
        let pairs = [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.norm.bias", "output_norm.bias"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
            ("model.layers.11.self_attn.k_proj.bias", "blk.11.attn_k.bias"),
            ("model.layers.2.self_attn.o_proj.weight", "blk.2.attn_output.weight"),
            ("model.layers.2.post_attention_layernorm.weight", "blk.2.ffn_norm.weight"),
            ("model.layers.2.mlp.down_proj.weight", "blk.2.ffn_down.weight"),
        ];
        for (hf, gguf) in pairs {
            assert_eq!(gguf_name(hf).as_deref(), Some(gguf));
            assert_eq!(hf_name(gguf).as_deref(), Some(hf));
        }
        for unknown in
            ["rope_freqs.weight", "blk.0.attn_qkv.weight", "blk.00.attn_q.weight", "blk.+1.attn_q.weight"]
        {
            assert_eq!(hf_name(unknown), None, "{unknown}");
        }
        assert_eq!(gguf_name("model.layers.0.self_attn.rotary_emb.inv_freq"), None);
        assert_eq!(gguf_name("model.norm.scale"), None);
    }

    #[test]
    fn rows_interleave_and_split() {
        let rotary = RotaryRows { heads: 2, head_dim: 4 };
        // Rows of two bytes; pairs of a half-split head are (0, 2) and (1, 3).
        let rows: Vec<u8> = (0..8).flat_map(|row| [row, 100 + row]).collect();
        let interleaved = rotary.interleave(&rows);
        let order: Vec<u8> = interleaved.iter().copied().step_by(2).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(
            interleaved.iter().copied().skip(1).step_by(2).collect::<Vec<_>>(),
            order.iter().map(|r| r + 100).collect::<Vec<_>>()
        );
        assert_eq!(rotary.split_halves(&interleaved), rows);
    }

    #[test]
    fn repeated_heads_keep_their_queries() {
        let (query_heads, from, to) = (8, 2, 4);
        let repeated = repeat_heads(&[10, 11, 20, 21], from, to);
        assert_eq!(repeated, [10, 11, 10, 11, 20, 21, 20, 21]);
        for query in 0..query_heads {
            let (before, after) = (query * from / query_heads, query * to / query_heads);
            assert_eq!(repeated[2 * after], [10, 20][before], "query head {query}");
        }
    }
}
