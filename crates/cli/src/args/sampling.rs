//! How to pick tokens, as typed; shared by `generate` and `chat`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use shakti_engine::SamplerOptions;

/// Flags of the sampler, in the order in which they act.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Penalty on tokens that the context holds already; 1 is none
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Divides the scores: below 1 bolder, above 1 wilder, 0 greedy
    #[arg(long = "temp", visible_alias = "temperature", value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    /// Keep the K best tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: usize,
    /// Keep the fewest tokens whose probability reaches P
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Keep tokens with at least this share of the best one's probability
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    min_p: f32,
    /// Seed of the draws [default: from the clock, and reported]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Always take the best token: the same as --temp 0
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "seed"])]
    greedy: bool,
    /// End the text before this string; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Go on after the token that ends a text
    #[arg(long)]
    pub ignore_eos: bool,
}

impl SamplingArgs {
    /// The options decided; the engine checks their ranges.
    pub fn resolve(&self) -> SamplerOptions {
        if self.greedy {
            return SamplerOptions { repetition_penalty: self.repeat_penalty, ..SamplerOptions::greedy() };
        }
        SamplerOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repeat_penalty,
            seed: self.seed.unwrap_or_else(seed_from_clock),
        }
    }
}

fn seed_from_clock() -> u64 {
    // A clock before 1970 is a constant seed, which is fine: the seed is reported.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as u64)
}
