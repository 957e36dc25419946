//! The cost model: what a configuration should do on a machine, from bytes and operations alone.
//!
//! Decoding a token reads the weights and the visible keys and values once, and multiplies: the slower of the two bounds
//! it. A prompt is multiplied through all layers, the head only for its last token; its weights are read once at least.
//! Nothing is said of overheads, so a prediction is a ceiling: what is measured stays below it by what they cost.

use shakti_kernels::KvType;
use shakti_model::{Cost, ModelConfig};

use crate::limits::Limits;

/// Rows of a forward pass of a prompt, which the working memory is for.
const CHUNK: usize = 512;

/// A model in a format, as far as the cost model needs it.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The shape.
    pub config: &'a ModelConfig,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bytes of weights that decoding a token reads.
    pub bytes_per_token: u64,
    /// Whether the products take 8-bit integers.
    pub is_int8: bool,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded after it.
    pub generate: usize,
}

/// What is to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Weights, cache for prompt and answer, working memory.
    pub resident_bytes: u64,
    /// Tokens decoded per second, on average over the answer.
    pub decode_tokens_per_s: f64,
    /// Prompt tokens per second.
    pub prefill_tokens_per_s: f64,
    /// Seconds from the prompt to its first answer token; the model is open.
    pub first_token_s: f64,
}

impl Load<'_> {
    /// Applies the cost model.
    pub fn predict(&self, limits: &Limits) -> Prediction {
        let config = self.config;
        let rate = if self.is_int8 { limits.int8_per_s } else { limits.f32_per_s };
        let linear = Cost::new(config).linear_flops_per_token as f64;
        let head = (2 * config.vocab_size * config.hidden_size) as f64;
        let attention = |position| Cost::attention_flops(config, position) as f64 / limits.f32_per_s;

        // The token in the middle of the answer stands for all.
        let middle = self.prompt + self.generate / 2;
        let cache = KvType::default().bytes(Cost::kv_values_read(config, middle));
        let read = (self.bytes_per_token + cache) as f64 / limits.bytes_per_s;
        let decode = read.max(linear / rate + attention(middle));

        let multiplied = ((linear - head) * self.prompt as f64 + head) / rate;
        let attended: f64 = (0..self.prompt).map(attention).sum();
        let prefill = (multiplied + attended).max(self.bytes_per_token as f64 / limits.bytes_per_s);
        Prediction {
            resident_bytes: self.resident_bytes(),
            decode_tokens_per_s: 1.0 / decode,
            prefill_tokens_per_s: self.prompt as f64 / prefill,
            first_token_s: prefill,
        }
    }

    fn resident_bytes(&self) -> u64 {
        let config = self.config;
        let cache = Cost::kv_bytes(config, self.prompt + self.generate);
        let rows = self.prompt.min(CHUNK);
        let work = 4 * (rows * (8 * config.hidden_size + 3 * config.intermediate_size) + config.vocab_size);
        self.weight_bytes + cache + work as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(config: &ModelConfig) -> Load<'_> {
        let bytes = 60_000_000;
        Load {
            config,
            weight_bytes: bytes,
            bytes_per_token: bytes,
            is_int8: true,
            prompt: 512,
            generate: 128,
        }
    }

    #[test]
    fn decoding_is_bound_by_the_slower_of_reading_and_multiplying() {
        let config = shakti_model::preset("shakti-100m").expect("a preset");
        let read = Limits { bytes_per_s: 1e9, int8_per_s: 1e15, f32_per_s: 1e15 };
        // 26 KV heads of 64, keys and values, 577 of them visible at token 576.
        let cache = f64::from(2 * 2 * 26 * 64 * 577);
        let expected = 1e9 / (60e6 + cache);
        let found = load(&config).predict(&read).decode_tokens_per_s;
        assert!((found / expected - 1.0).abs() < 1e-12, "{found}, expected {expected}");
        let slow = Limits { bytes_per_s: 1e15, int8_per_s: 1e9, f32_per_s: 1e15 };
        let flops = Cost::new(&config).linear_flops_per_token as f64;
        let found = load(&config).predict(&slow).decode_tokens_per_s;
        assert!((found * flops / 1e9 - 1.0).abs() < 1e-3, "{found}");
    }

    #[test]
    fn a_prompt_pays_the_head_once_and_memory_holds_weights_and_cache() {
        let config = shakti_model::preset("shakti-100m").expect("a preset");
        let limits = Limits { bytes_per_s: 1e15, int8_per_s: 1e12, f32_per_s: 1e18 };
        let prediction = load(&config).predict(&limits);
        let head = 2.0 * 64_000.0 * 640.0;
        let body = Cost::new(&config).linear_flops_per_token as f64 - head;
        assert!((prediction.first_token_s / ((512.0 * body + head) / 1e12) - 1.0).abs() < 1e-3);
        let cache = 2 * 2 * 26 * 64 * 640;
        assert!(prediction.resident_bytes > 60_000_000 + cache);
        assert!(prediction.resident_bytes < 60_000_000 + cache + (32 << 20));
    }
}
