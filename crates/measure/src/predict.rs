//! The cost model: what a configuration should do on a machine.
//!
//! By a data sheet ([`Load::predict`]), from bytes and operations alone: decoding a token reads the weights and the visible
//! keys and values once, and multiplies; the slower of the two bounds it. A prompt is multiplied through all layers, the
//! head only for its last token; its weights are read once at least. Nothing is said of overheads, so this is a ceiling.
//!
//! By this machine ([`Load::predict_here`]), from one layer of each kind timed alone. Alone it lies in a cache; so of a
//! decoded token only what it takes beyond reading counts (waiting of threads, arithmetic, small operations), times the
//! layers, and reading all weights and the cache at the rate that was measured for as many bytes comes on top. A prompt
//! takes the layer's whole time, times the layers, and one reading of the weights.

use std::sync::Arc;

use shakti_engine::Network;
use shakti_kernels::blocks::DType;
use shakti_kernels::{Cpu, KvType};
use shakti_model::{Cost, ModelConfig};

use crate::MeasureError;
use crate::limits::{Limits, reading_rate};
use crate::speed::{Cell, Meter, Speedometer};
use crate::spread::Spread;

/// Rows of a forward pass of a prompt, which the working memory is for.
const CHUNK: usize = 128;

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

/// What the layers of one kind take, from one of them timed alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerTime {
    /// Layers of this kind.
    pub count: usize,
    /// Seconds for the whole prompt.
    pub prefill_s: f64,
    /// Seconds of a decoded token beyond reading weights and cache.
    pub overhead_s: f64,
}

/// Rounds that a layer is timed, after one that does not count.
const ROUNDS: usize = 5;

impl LayerTime {
    /// Times a network that is one such layer, a small vocabulary and weights of `dtype`, after `load.prompt` tokens.
    ///
    /// # Errors
    /// Those of the engine; memory is short.
    pub fn measure(
        cpu: &Cpu,
        network: &Arc<Network>,
        dtype: DType,
        load: &Load<'_>,
    ) -> Result<Self, MeasureError> {
        let cell = |depth| Cell { prompt: load.prompt, generate: load.generate, depth, batch: 1 };
        let mut first = Speedometer::new(network, cell(0));
        let mut then = Speedometer::new(network, cell(load.prompt));
        let meter = Meter::default();
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let seconds = (first.prefill(&meter)?.seconds, then.decode(&meter)?.seconds);
            if round > 0 {
                prefill.push(seconds.0);
                decode.push(seconds.1 / load.generate as f64);
            }
        }
        let config = network.config();
        let cache = network.kv_type().bytes(Cost::kv_values_read(config, load.middle()));
        let bytes = network.weight_bytes_per_step() + cache as usize;
        let reading_s = bytes as f64 / reading_rate(cpu, dtype, bytes)?;
        let overhead_s = (Spread::of(&decode).median - reading_s).max(0.0);
        Ok(Self { count: 1, prefill_s: Spread::of(&prefill).median, overhead_s })
    }
}

impl Load<'_> {
    /// What to expect of this machine: its layers as timed alone, and the seconds in which it reads all weights of a
    /// decoded token.
    pub fn predict_here(&self, layers: &[LayerTime], weights_s: f64) -> Prediction {
        let cache_s = weights_s * self.cache_bytes() as f64 / self.bytes_per_token as f64;
        let over = |of: fn(&LayerTime) -> f64| -> f64 {
            layers.iter().map(|layer| layer.count as f64 * of(layer)).sum()
        };
        let decode = weights_s + cache_s + over(|layer| layer.overhead_s);
        self.prediction(decode, weights_s + over(|layer| layer.prefill_s))
    }

    /// What a data sheet allows.
    pub fn predict(&self, limits: &Limits) -> Prediction {
        let config = self.config;
        let rate = if self.is_int8 { limits.int8_per_s } else { limits.f32_per_s };
        let linear = Cost::new(config).linear_flops_per_token as f64;
        let head = (2 * config.vocab_size * config.hidden_size) as f64;
        let attention = |position| Cost::attention_flops(config, position) as f64 / limits.f32_per_s;

        let read = (self.bytes_per_token + self.cache_bytes()) as f64 / limits.bytes_per_s;
        let decode = read.max(linear / rate + attention(self.middle()));

        let multiplied = ((linear - head) * self.prompt as f64 + head) / rate;
        let attended: f64 = (0..self.prompt).map(attention).sum();
        let prefill = (multiplied + attended).max(self.bytes_per_token as f64 / limits.bytes_per_s);
        self.prediction(decode, prefill)
    }

    /// The token in the middle of the answer, which stands for all.
    fn middle(&self) -> usize {
        self.prompt + self.generate / 2
    }

    /// Bytes of keys and values that it reads.
    fn cache_bytes(&self) -> u64 {
        KvType::default().bytes(Cost::kv_values_read(self.config, self.middle()))
    }

    fn prediction(&self, decode_s: f64, prefill_s: f64) -> Prediction {
        Prediction {
            resident_bytes: self.resident_bytes(),
            decode_tokens_per_s: 1.0 / decode_s,
            prefill_tokens_per_s: self.prompt as f64 / prefill_s,
            first_token_s: prefill_s,
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

    #[test]
    fn layers_timed_alone_are_counted_and_reading_comes_on_top() {
        let config = shakti_model::preset("shakti-100m").expect("a preset");
        let outer = LayerTime { count: 2, prefill_s: 0.011, overhead_s: 30e-6 };
        let inner = LayerTime { count: 8, prefill_s: 0.01, overhead_s: 20e-6 };
        let prediction = load(&config).predict_here(&[outer, inner], 1.5e-3);
        let cache = f64::from(2 * 2 * 26 * 64 * 577);
        let decode = 1.5e-3 * (1.0 + cache / 60e6) + 220e-6;
        assert!((prediction.decode_tokens_per_s * decode - 1.0).abs() < 1e-12, "{prediction:?}");
        assert!((prediction.first_token_s - 0.1035).abs() < 1e-12, "{prediction:?}");
        assert!((prediction.prefill_tokens_per_s * 0.1035 / 512.0 - 1.0).abs() < 1e-12);
    }
}
