//! `shakti model`: what a model is and costs.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;
use shakti_checkpoint::ModelFile;
use shakti_model::{Cost, ModelConfig, PRESETS};
use shakti_quant::{FileType, plan, total_bytes};

use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;

/// Describe models
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    Info(InfoArgs),
}

/// Exact parameters, cost of a token and file sizes of a preset, a folder or a file
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti model info shakti-100m")]
struct InfoArgs {
    /// shakti-nano, shakti-100m, shakti-250m, shakti-500m, shakti-2.5b, a checkpoint folder or a GGUF file
    #[arg(value_name = "PRESET|PATH", required_unless_present = "model_flag", conflicts_with = "model_flag")]
    model: Option<String>,
    /// The same, as a flag
    #[arg(short = 'm', long = "model", value_name = "PRESET|PATH")]
    model_flag: Option<String>,
}

/// File types that `model info` sizes up, largest first.
const SIZED_TYPES: [&str; 8] = ["f32", "f16", "q8_0", "q5_1", "q5_0", "q4_k_m", "q4_1", "q4_0"];

/// What `--json` prints; the text shows the same.
#[derive(Debug, Serialize)]
struct Info {
    name: String,
    parameters: u64,
    layers: usize,
    hidden_size: usize,
    intermediate_size: usize,
    attention_heads: usize,
    kv_heads: Vec<usize>,
    head_dim: usize,
    vocab_size: usize,
    tied_embeddings: bool,
    context: usize,
    layer_types: Vec<&'static str>,
    sliding_window: Option<usize>,
    dense_equivalent_length: Option<usize>,
    /// Floating-point operations for one decoded token: matrix products, and attention with a full context.
    flops_per_token: u64,
    attention_flops_at_full_context: u64,
    kv_bytes_per_token_f16: u64,
    kv_bytes_at_full_context_f16: u64,
    formats: Vec<FormatSize>,
    stored_bytes: Option<u64>,
}

/// A model in one format.
#[derive(Debug, Serialize)]
pub struct FormatSize {
    /// Name of the file type.
    pub format: &'static str,
    /// Bytes of all weights.
    pub file_bytes: u64,
    /// Weights that one decoded token reads.
    pub bytes_per_token: u64,
    bits_per_parameter: f64,
    times_smaller_than_f32: f64,
}

/// Runs the command.
pub fn run(args: &ModelArgs, settings: &Settings) -> Result<(), Failure> {
    let ModelCommand::Info(args) = &args.command;
    let name = args.model.as_deref().or(args.model_flag.as_deref()).expect("clap demands one of the two");
    let (config, stored_bytes) = open_config(name)?;
    let info = Info::new(name, &config, stored_bytes)?;
    Ok(settings.output.result(&info, info.text())?)
}

/// The configuration of a preset, a folder or a file, and the bytes of its weights as stored.
pub fn open_config(name: &str) -> Result<(ModelConfig, Option<u64>), Failure> {
    if PRESETS.contains(&name) {
        return Ok((shakti_model::preset(name)?, None));
    }
    let path = Path::new(name);
    if !path.exists() {
        let message = format!("`{name}` is neither a preset nor a path that exists");
        return Err(Failure::bad_input(message).hint(format!("presets are {}", PRESETS.join(", "))));
    }
    let file = ModelFile::open(path).context("cannot open the model")?;
    Ok((file.config().clone(), Some(file.weight_bytes())))
}

impl Info {
    fn new(name: &str, config: &ModelConfig, stored_bytes: Option<u64>) -> Result<Self, Failure> {
        let cost = Cost::new(config);
        let last = config.max_position_embeddings - 1;
        let windowed = config.layer_types.contains(&shakti_model::LayerType::SlidingAttention);
        Ok(Self {
            name: name.to_owned(),
            parameters: cost.parameters,
            layers: config.num_hidden_layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            attention_heads: config.num_attention_heads,
            kv_heads: config.num_kv_heads.clone(),
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            tied_embeddings: config.tie_word_embeddings,
            context: config.max_position_embeddings,
            layer_types: config.layer_types.iter().map(|kind| kind.name()).collect(),
            sliding_window: windowed.then_some(config.sliding_window),
            dense_equivalent_length: config.dense_equivalent_length(),
            flops_per_token: cost.linear_flops_per_token,
            attention_flops_at_full_context: Cost::attention_flops(config, last),
            kv_bytes_per_token_f16: cost.kv_bytes_per_token,
            kv_bytes_at_full_context_f16: Cost::kv_bytes(config, last + 1),
            formats: format_sizes(config)?,
            stored_bytes,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            writeln!(text, "{name:<18} {value}").expect("writing to a string");
        };
        row("model", self.name.clone());
        row("parameters", grouped(self.parameters));
        row(
            "layers",
            format!("{} x hidden {}, FFN {}", self.layers, self.hidden_size, self.intermediate_size),
        );
        row(
            "heads",
            format!("{} x {}, KV heads {}", self.attention_heads, self.head_dim, runs(&self.kv_heads)),
        );
        row(
            "vocabulary",
            format!(
                "{}{}",
                grouped(self.vocab_size as u64),
                if self.tied_embeddings { ", tied" } else { "" }
            ),
        );
        let window = self.sliding_window.map_or_else(String::new, |window| format!(", window {window}"));
        row("attention", format!("{}{window}", runs(&self.layer_types)));
        if let Some(length) = self.dense_equivalent_length {
            row("dense up to", format!("{length} tokens"));
        }
        row("context", format!("{} tokens", grouped(self.context as u64)));
        row(
            "FLOPs per token",
            format!(
                "{} + {} for attention at full context",
                grouped(self.flops_per_token),
                grouped(self.attention_flops_at_full_context)
            ),
        );
        row(
            "KV cache, f16",
            format!(
                "{} bytes per token, {} at full context",
                grouped(self.kv_bytes_per_token_f16),
                megabytes(self.kv_bytes_at_full_context_f16)
            ),
        );
        if let Some(bytes) = self.stored_bytes {
            row("stored weights", format!("{} bytes", grouped(bytes)));
        }
        text.push_str("\nformat        file size   read per token   bits per parameter   smaller than f32\n");
        for size in &self.formats {
            writeln!(
                text,
                "{:<10} {:>12} {:>16} {:>20.2} {:>17.1}x",
                size.format,
                megabytes(size.file_bytes),
                megabytes(size.bytes_per_token),
                size.bits_per_parameter,
                size.times_smaller_than_f32
            )
            .expect("writing to a string");
        }
        text.push_str("file sizes are of the weights; the vocabulary comes on top");
        text
    }
}

/// The model in every file type that is sized up, largest first.
pub fn format_sizes(config: &ModelConfig) -> Result<Vec<FormatSize>, Failure> {
    let parameters = Cost::new(config).parameters;
    let size = |name: &'static str| {
        let plan = plan(config, name.parse::<FileType>()?, None);
        let bytes = total_bytes(&plan) as u64;
        // An untied embedding table is read one row a token.
        let is_table = |name: &str| name == "model.embed_tokens.weight" && !config.tie_word_embeddings;
        let table =
            plan.iter().filter(|tensor| is_table(&tensor.spec.name)).map(|tensor| tensor.bytes as u64);
        Ok(FormatSize {
            format: name,
            file_bytes: bytes,
            bytes_per_token: bytes - table.sum::<u64>(),
            bits_per_parameter: 8.0 * bytes as f64 / parameters as f64,
            times_smaller_than_f32: 4.0 * parameters as f64 / bytes as f64,
        })
    };
    SIZED_TYPES.into_iter().map(size).collect()
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Decimal megabytes, as file managers show them.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// `[5, 2, 2, 5]` as `[5, 2 x2, 5]`.
fn runs<T: PartialEq + std::fmt::Display>(list: &[T]) -> String {
    let runs = list.chunk_by(|a, b| a == b).map(|run| match run.len() {
        1 => run[0].to_string(),
        len => format!("{} x{len}", run[0]),
    });
    format!("[{}]", runs.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(100_447_360), "100,447,360");
    }

    #[test]
    fn equal_neighbours_are_counted() {
        assert_eq!(runs(&[5, 2, 2, 2, 5]), "[5, 2 x3, 5]");
    }
}
