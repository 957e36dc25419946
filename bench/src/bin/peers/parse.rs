//! Numbers in what the peers print.

use anyhow::{Context, bail};
use serde_json::Value;
use shakti_measure::{find_number, llama_bench_rate};

/// Where the number of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A key of the JSON object of `shakti bench`.
    Key(&'static str),
    /// `avg_ts` of llama-bench's test of these prompt and generated tokens.
    LlamaBench(usize, usize),
    /// `S_TG t/s` of llama-batched-bench's row of this many sequences.
    BatchedBench(usize),
    /// Running time of the process, in seconds.
    Seconds,
    /// Most memory of the process, less the weights once and the cache, in bytes.
    Memory,
}

/// JSON values of an output that may say other things before them.
pub fn json(output: &str) -> anyhow::Result<Vec<Value>> {
    let mut offset = 0;
    for line in output.split_inclusive('\n') {
        if line.starts_with(['[', '{']) {
            let values = serde_json::Deserializer::from_str(&output[offset..]).into_iter::<Value>();
            if let Ok(values) = values.collect() {
                return Ok(values);
            }
        }
        offset += line.len();
    }
    bail!("no JSON in {:?}", end(output))
}

/// The number of a reading that stands in the output.
pub fn number(reading: Reading, output: &str) -> anyhow::Result<f64> {
    match reading {
        Reading::Key(key) => find_number(&json(output)?, key).with_context(|| format!("no number `{key}`")),
        Reading::LlamaBench(prompt, generated) => llama_bench_rate(&json(output)?, (prompt, generated))
            .with_context(|| format!("no test of {prompt} and {generated} tokens")),
        Reading::BatchedBench(sequences) => batched_bench(output, sequences)
            .with_context(|| format!("no row of {sequences} sequences in {:?}", end(output))),
        Reading::Seconds | Reading::Memory => bail!("not a number of the output"),
    }
}

/// Rows are `| PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | T s | S t/s |`.
fn batched_bench(output: &str, sequences: usize) -> Option<f64> {
    let rows = output.lines().filter_map(|line| line.trim().strip_prefix('|'));
    let mut rows =
        rows.map(|row| row.split('|').map(|field| field.trim().parse::<f64>()).collect::<Vec<_>>());
    let row = rows.find(|row| row.get(2) == Some(&Ok(sequences as f64)))?;
    row.get(7)?.clone().ok()
}

/// The end of a text, for messages.
pub fn end(text: &str) -> &str {
    let from = text.len().saturating_sub(300);
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[from..].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_behind_other_lines() {
        let output = "warning: [not] json\n[note]\n[\n  {\"n_prompt\": 0, \"n_gen\": 128, \"avg_ts\": 243.5},\n  \
                      {\"n_prompt\": 2048, \"n_gen\": 64, \"avg_ts\": 90.25}\n]\n";
        assert_eq!(number(Reading::LlamaBench(0, 128), output).expect("a rate"), 243.5);
        assert_eq!(number(Reading::LlamaBench(2048, 64), output).expect("a rate"), 90.25);
        let error = number(Reading::LlamaBench(512, 0), output).expect_err("no such test").to_string();
        assert!(error.contains("512"), "{error}");
        let ours = "{\"decode_tokens_per_s\":570.5,\"decode_tokens_per_s_range\":[1.0,2.0]}\n";
        assert_eq!(number(Reading::Key("decode_tokens_per_s"), ours).expect("a rate"), 570.5);
        assert!(number(Reading::Key("decode_tokens_per_s"), "error: no model").is_err());
    }

    #[test]
    fn a_row_of_batched_bench_is_found_by_its_sequences() {
        let output = "main: n_kv_max = 6144, n_batch = 2048\n\n\
                      |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n\
                      |-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n\
                      |   128 |     64 |    8 |   1536 |    0.700 |  1462.86 |    1.080 |   474.07 |    1.780 |   862.92 |\n\
                      |   128 |     64 |   32 |   6144 |    2.800 |  1462.86 |    3.030 |   675.91 |    5.830 |  1053.86 |\n";
        assert_eq!(number(Reading::BatchedBench(8), output).expect("a rate"), 474.07);
        assert_eq!(number(Reading::BatchedBench(32), output).expect("a rate"), 675.91);
        assert!(number(Reading::BatchedBench(4), output).is_err());
    }

    #[test]
    fn a_quoted_end_is_cut_between_characters() {
        assert_eq!(end("short \n"), "short");
        assert!(end(&"é".repeat(400)).len() <= 300);
    }
}
