//! `model.size`: one number from which shape, learning rate, batch and number of steps follow, where the recipe does not
//! give them.
//!
//! With `P` parameters, vocabulary `V`, width `D`, `L` layers:
//!
//! ```text
//! P       = V D + L (2 D^2 + D^2 + 9 D^2 + 2 D) + D      tied embedding; q and o, k and v, SwiGLU; norms
//! heads   of dimension 64 (32 where D < 512), half as many key and value heads, FFN 3 D wide
//! D, L    least |ln(P / size)| + 0.1 |ln(D / 64 L)| with 32 <= D / L <= 128    (Kaplan et al. 2020, arXiv 2001.08361, fig. 5:
//!                                                         the ratio hardly matters between these)
//! tokens  = 20 P                                          (Hoffmann et al. 2022, arXiv 2203.15556)
//! C       = 6 P tokens                                    floating-point operations
//! rate    = min(0.3118 C^-0.1250, 0.004)                  (DeepSeek LLM 2024, arXiv 2401.02954, eq. 1; fitted from
//! batch   = 0.2920 C^0.3271 tokens                         1e17 to 2e19, extrapolated below)
//! steps   = tokens / batch
//! init    = 1 / sqrt(D)
//! ```

use std::path::Path;

use shakti_tokenizer::Tokenizer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::Problem;

/// Tokens of a forward and backward pass, about; more take memory and bring no speed.
const MICRO_BATCH_TOKENS: usize = 4096;
/// Largest learning rate: below the fitted range the formula goes on rising.
const LARGEST_RATE: f64 = 4e-3;
/// Most that a shape may be off of the size.
const TOLERANCE: f64 = 0.25;

/// A shape that a size comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    hidden: usize,
    layers: usize,
    heads: usize,
    parameters: f64,
}

/// Number of parameters that `30m`, `1.5b`, `500k` or a plain number says.
fn parse_size(text: &str) -> Result<f64, String> {
    let lower = text.trim().to_lowercase();
    let factors = [("k", 1e3), ("m", 1e6), ("b", 1e9)];
    let found = factors.iter().find_map(|(end, factor)| Some((lower.strip_suffix(end)?, *factor)));
    let (number, factor) = found.unwrap_or((&lower, 1.0));
    let size = number.trim().parse::<f64>().ok().map(|number| number * factor);
    size.filter(|size| (1e5..=3e9).contains(size))
        .ok_or_else(|| format!("`{text}`, expected a number of parameters from 100k to 3b, such as \"30m\""))
}

fn parameters(vocab: usize, hidden: usize, layers: usize) -> f64 {
    let (vocab, hidden, layers) = (vocab as f64, hidden as f64, layers as f64);
    vocab * hidden + layers * (12.0 * hidden * hidden + 2.0 * hidden) + hidden
}

fn shape(size: f64, vocab: usize) -> Result<Shape, String> {
    let mut best: Option<(f64, Shape)> = None;
    for layers in 2..=64usize {
        for hidden in (64..=8192usize).step_by(64) {
            let head_dim = if hidden < 512 { 32 } else { 64 };
            let ratio = hidden as f64 / layers as f64;
            if !hidden.is_multiple_of(2 * head_dim) || !(32.0..=128.0).contains(&ratio) {
                continue;
            }
            let parameters = parameters(vocab, hidden, layers);
            let score = (parameters / size).ln().abs() + 0.1 * (ratio / 64.0).ln().abs();
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, Shape { hidden, layers, heads: hidden / head_dim, parameters }));
            }
        }
    }
    let fitting =
        best.map(|(_, shape)| shape).filter(|shape| (shape.parameters / size - 1.0).abs() <= TOLERANCE);
    fitting.ok_or_else(|| format!("no shape of about {size:.0} parameters has a vocabulary of {vocab}"))
}

/// Training that suits so many parameters: learning rate, batch in tokens, tokens in all.
fn budget(parameters: f64) -> (f64, f64, f64) {
    let tokens = 20.0 * parameters;
    let operations = 6.0 * parameters * tokens;
    ((0.3118 * operations.powf(-0.1250)).min(LARGEST_RATE), 0.2920 * operations.powf(0.3271), tokens)
}

/// What a table holds under `section.key`.
fn value<'a>(table: &'a DeTable<'_>, section: &str, key: &str) -> Option<&'a DeValue<'a>> {
    table.get(section)?.get_ref().as_table()?.get(key).map(Spanned::get_ref)
}

fn integer(value: Option<&DeValue<'_>>) -> Option<usize> {
    value?.as_integer()?.as_str().replace('_', "").parse().ok()
}

/// Number of ids of the tokenizer that a recipe names.
fn vocabulary(table: &DeTable<'_>) -> Option<Result<usize, Problem>> {
    let training = value(table, "tokenizer", "train").and_then(DeValue::as_table);
    if let Some(size) = training.and_then(|training| training.get("vocab_size")) {
        return integer(Some(size.get_ref())).map(Ok);
    }
    let path = value(table, "tokenizer", "path")?.as_str()?;
    let opened = Tokenizer::open(Path::new(path)).map(|tokenizer| tokenizer.vocab_size());
    Some(opened.map_err(|error| ("tokenizer.path", error.to_string())))
}

/// TOML of the keys that `model.size` decides and the recipe lacks; empty without that key, or where another part of the
/// recipe is wrong in a way that is reported elsewhere.
pub(super) fn derive(table: &DeTable<'_>) -> Result<String, Problem> {
    let Some(size) = value(table, "model", "size") else { return Ok(String::new()) };
    let text = match size {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().replace('_', ""),
        _ => return Ok(String::new()),
    };
    let size = parse_size(&text).map_err(|problem| ("model.size", problem))?;
    // Another type is refused by name where the recipe is read.
    if value(table, "model", "overrides").is_some_and(|overrides| !overrides.is_table()) {
        return Ok(String::new());
    }
    let Some(vocab) = vocabulary(table) else { return Ok(String::new()) };
    let vocab = vocab?;
    let sequence = integer(value(table, "train", "sequence_length"));
    let Some(sequence) = sequence.filter(|length| (8..=1 << 24).contains(length)) else {
        return Ok(String::new());
    };
    let shape = shape(size, vocab).map_err(|problem| ("model.size", problem))?;
    check_given(table, size, vocab, &shape)?;
    let mut derived = Derived { table, text: String::new() };
    derived.model(&shape, sequence);
    derived.train(&shape, sequence);
    Ok(derived.text)
}

/// Refuses a shape in `model.overrides` that is not about as large as the size says.
fn check_given(table: &DeTable<'_>, size: f64, vocab: usize, shape: &Shape) -> Result<(), Problem> {
    let overrides = value(table, "model", "overrides").and_then(DeValue::as_table);
    let given = |key: &str| integer(overrides?.get(key).map(Spanned::get_ref));
    let hidden = given("hidden_size").unwrap_or(shape.hidden);
    let layers = given("num_hidden_layers").unwrap_or(shape.layers);
    let found = parameters(vocab, hidden, layers);
    if (found / size - 1.0).abs() > TOLERANCE {
        let problem = format!(
            "{size:.0} parameters, but hidden_size {hidden} and num_hidden_layers {layers} in `model.overrides` make about {found:.0}"
        );
        return Err(("model.size", problem));
    }
    Ok(())
}

struct Derived<'a> {
    table: &'a DeTable<'a>,
    text: String,
}

impl Derived<'_> {
    fn model(&mut self, shape: &Shape, sequence: usize) {
        let Shape { hidden, layers, heads, .. } = *shape;
        let keys = [
            ("model_type", "\"llama\"".into()),
            ("hidden_size", hidden.to_string()),
            ("intermediate_size", (3 * hidden).to_string()),
            ("num_hidden_layers", layers.to_string()),
            ("num_attention_heads", heads.to_string()),
            ("num_key_value_heads", (heads / 2).to_string()),
            ("max_position_embeddings", sequence.max(1024).to_string()),
            ("rms_norm_eps", "1e-5".into()),
            ("rope_theta", "500000.0".into()),
            ("tie_word_embeddings", "true".into()),
            ("initializer_range", format!("{:.4}", 1.0 / (hidden as f64).sqrt())),
        ];
        let given = value(self.table, "model", "overrides").and_then(DeValue::as_table);
        for (key, value) in
            keys.into_iter().filter(|(key, _)| given.is_none_or(|given| !given.contains_key(*key)))
        {
            self.text += &format!("model.overrides.{key} = {value}\n");
        }
    }

    fn train(&mut self, shape: &Shape, sequence: usize) {
        let (rate, batch, tokens) = budget(shape.parameters);
        let table = self.table;
        let given = |key: &str| value(table, "train", key);
        if given("peak_learning_rate").is_none() {
            self.text += &format!("train.peak_learning_rate = {rate:.2e}\n");
        }
        let mut batch_tokens = integer(given("batch_tokens"));
        if batch_tokens.is_none() {
            let micro = sequence * (MICRO_BATCH_TOKENS / sequence).max(1);
            let micro = integer(given("micro_batch_tokens")).unwrap_or(micro).max(1);
            let count = ((batch / micro as f64).round() as usize).max(1);
            batch_tokens = Some(count * micro);
            self.text += &format!("train.batch_tokens = {}\n", count * micro);
            if given("micro_batch_tokens").is_none() && count > 1 {
                self.text += &format!("train.micro_batch_tokens = {micro}\n");
            }
        }
        if given("steps").is_none() && given("minutes").is_none() {
            let steps = (tokens / batch_tokens.unwrap_or(1).max(1) as f64).ceil() as u64;
            self.text += &format!("train.steps = {steps}\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_come_near_the_size_and_grow_with_it() {
        let mut before = 0.0;
        for (text, vocab) in [
            ("1m", 512),
            ("5m", 4096),
            ("10m", 8192),
            ("30m", 16_000),
            ("100m", 32_000),
            ("0.5b", 64_000),
            ("2500m", 64_000),
        ] {
            let size = parse_size(text).expect("a size");
            let shape = shape(size, vocab).expect("a shape");
            assert!((shape.parameters / size - 1.0).abs() < 0.12, "{text}: {shape:?}");
            assert!(shape.parameters > before && shape.heads.is_multiple_of(2));
            before = shape.parameters;
        }
        assert!(shape(1e6, 32_000).expect_err("an embedding of 2 million").contains("vocabulary of 32000"));
    }

    #[test]
    fn the_budget_is_that_of_the_published_formulas() {
        // 67 million parameters on 20 tokens each: C = 6 * 20 * 67e6^2 = 5.4e17.
        let (rate, batch, tokens) = budget(67e6);
        assert_eq!(tokens, 1.34e9);
        assert!((rate - 0.3118 * (5.3868e17f64).powf(-0.125)).abs() < 1e-7, "{rate}");
        assert!((rate - 1.9e-3).abs() < 1e-4 && (batch - 1.86e5).abs() < 2e4, "{rate} {batch}");
        assert_eq!(budget(1e6).0, LARGEST_RATE);
    }

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        assert_eq!(parse_size("30m"), Ok(3e7));
        assert_eq!(parse_size(" 1.5 B "), Ok(1.5e9));
        assert_eq!(parse_size("250000"), Ok(2.5e5));
        for wrong in ["", "m", "-3m", "30mb", "10", "90b", "nan"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
