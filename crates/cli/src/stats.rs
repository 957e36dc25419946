//! How fast a generation went and how much memory it took, in words.

use serde::Serialize;
use shakti_engine::{Generation, GenerationStats, StopReason};

/// Tokens per second; absent where there was nothing to measure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    prefill_tokens_per_second: Option<f64>,
    decode_tokens_per_second: Option<f64>,
}

impl Rates {
    /// The rates of a generation.
    pub fn of(stats: &GenerationStats) -> Self {
        Self {
            prefill_tokens_per_second: stats.prefill_tokens_per_second(),
            decode_tokens_per_second: stats.decode_tokens_per_second(),
        }
    }
}

/// One line for people.
pub fn line(generation: &Generation, seed: u64) -> String {
    let stats = &generation.stats;
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let stop = match &generation.stop {
        StopReason::EndToken { .. } => "end of text".to_owned(),
        StopReason::StopString { text } => format!("stop string {text:?}"),
        StopReason::Length => "number of tokens".to_owned(),
        StopReason::ContextFull => "context full".to_owned(),
        StopReason::Cancelled => "cancelled".to_owned(),
    };
    let memory = shakti_measure::peak_memory_bytes()
        .map_or_else(String::new, |bytes| format!(", peak memory {}", mebibytes(bytes)));
    format!(
        "[prompt {} tokens ({} reused) at {} tokens/s; {} new at {} tokens/s, first after {:.0} ms; KV cache {}{memory}; \
         seed {seed}; ended by {stop}]",
        stats.prompt_tokens,
        stats.reused_tokens,
        rate(stats.prefill_tokens_per_second()),
        stats.new_tokens,
        rate(stats.decode_tokens_per_second()),
        1000.0 * stats.time_to_first_token_seconds,
        mebibytes(stats.kv_cache_bytes as u64),
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
