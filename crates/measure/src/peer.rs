//! Another program that measures the same thing: its command, and the rates in the JSON that it prints.

use std::process::Command;

use serde_json::Value;

use crate::MeasureError;
use crate::speed::Cell;

/// Bytes of the end of standard error that a message quotes.
const QUOTED: usize = 500;

/// Another program to compare with.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The command line, run by `sh -c`; see [`Peer::expand`].
    pub command: String,
    /// Key of its prefill rate, see [`find_number`]; `None` looks for what llama-bench and `shakti bench` print.
    pub prefill_key: Option<String>,
    /// Key of its decode rate.
    pub decode_key: Option<String>,
}

/// What one run of a peer printed, tokens per second; at least one of the two is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerRates {
    /// Prompt tokens per second.
    pub prefill: Option<f64>,
    /// Generated tokens per second.
    pub decode: Option<f64>,
}

impl Peer {
    /// The command with `{model}`, `{threads}`, `{prompt}`, `{gen}`, `{depth}` and `{batch}` replaced, so that one peer
    /// serves many cells.
    #[must_use]
    pub fn expand(mut self, model: &str, threads: usize, cell: &Cell) -> Self {
        let numbers = [
            ("{threads}", threads),
            ("{prompt}", cell.prompt),
            ("{gen}", cell.generate),
            ("{depth}", cell.depth),
            ("{batch}", cell.batch),
        ];
        for (name, value) in numbers {
            self.command = self.command.replace(name, &value.to_string());
        }
        self.command = self.command.replace("{model}", model);
        self
    }

    /// Runs the program once.
    ///
    /// # Errors
    /// It cannot be started, fails, prints something other than JSON, or no rate.
    pub fn run(&self, cell: &Cell) -> Result<PeerRates, MeasureError> {
        let printed = run_for_json(&self.command)?;
        let no_rate = |wanted: String| MeasureError::NoRate { command: self.command.clone(), wanted };
        let rate = |key: &Option<String>, ours: &str, tokens: (usize, usize)| match key {
            Some(key) => {
                find_number(&printed, key).map(Some).ok_or_else(|| no_rate(format!("under `{key}`")))
            }
            None => Ok(find_number(&printed, ours).or_else(|| llama_bench_rate(&printed, tokens))),
        };
        let rates = PeerRates {
            prefill: rate(&self.prefill_key, "prefill_tokens_per_s", (cell.prompt, 0))?,
            decode: rate(&self.decode_key, "decode_tokens_per_s", (0, cell.generate))?,
        };
        if rates.prefill.is_none() && rates.decode.is_none() {
            return Err(no_rate(format!(
                "under `prefill_tokens_per_s` or `decode_tokens_per_s`, nor llama-bench's `avg_ts` of {} prompt or {} \
                 generated tokens",
                cell.prompt, cell.generate
            )));
        }
        Ok(rates)
    }
}

/// Runs a command by `sh -c` and returns the JSON values that it prints, one or several.
///
/// # Errors
/// It cannot be started, fails, or prints something else.
pub fn run_for_json(command: &str) -> Result<Vec<Value>, MeasureError> {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .map_err(|source| MeasureError::Start { command: command.to_owned(), source })?;
    if !output.status.success() {
        let end = &output.stderr[output.stderr.len().saturating_sub(QUOTED)..];
        let stderr = String::from_utf8_lossy(end).trim().to_owned();
        return Err(MeasureError::Status { command: command.to_owned(), status: output.status, stderr });
    }
    let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    values
        .collect::<Result<_, _>>()
        .map_err(|source| MeasureError::NotJson { command: command.to_owned(), source })
}

/// The first number under `key`, at any depth; `KEY[i]` takes the i-th.
pub fn find_number(values: &[Value], key: &str) -> Option<f64> {
    let indexed = key.strip_suffix(']').and_then(|key| key.rsplit_once('['));
    let indexed = indexed.and_then(|(key, index)| Some((key, index.parse().ok()?)));
    let (key, index): (&str, usize) = indexed.unwrap_or((key, 0));
    let mut found = Vec::new();
    values.iter().for_each(|value| collect(value, key, &mut found));
    found.get(index).copied()
}

fn collect(value: &Value, key: &str, found: &mut Vec<f64>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value.as_f64() {
                    Some(number) if name == key => found.push(number),
                    _ => collect(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}

/// `avg_ts` of the test of llama-bench that has exactly these prompt and generated tokens.
pub fn llama_bench_rate(values: &[Value], (prompt, generated): (usize, usize)) -> Option<f64> {
    let tests = values.iter().flat_map(|value| match value {
        Value::Array(items) => items.as_slice(),
        other => std::slice::from_ref(other),
    });
    let is = |test: &Value, key: &str, number: usize| test[key].as_u64() == Some(number as u64);
    let mut fitting = tests.filter(|test| is(test, "n_prompt", prompt) && is(test, "n_gen", generated));
    fitting.next()?["avg_ts"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell { prompt: 512, generate: 128, depth: 0, batch: 1 };

    fn peer(command: &str) -> Peer {
        Peer { command: command.to_owned(), prefill_key: None, decode_key: None }
    }

    #[test]
    fn llama_bench_is_understood_whatever_the_order() {
        let test = |prompt, generated, rate| {
            format!("{{\"n_prompt\": {prompt}, \"n_gen\": {generated}, \"avg_ts\": {rate}}}")
        };
        let output = format!("[{}, {}, {}]", test(0, 128, 240.5), test(16, 0, 3.0), test(512, 0, 1500.25));
        let rates = peer(&format!("echo '{output}'")).run(&CELL).expect("rates");
        assert_eq!(rates, PeerRates { prefill: Some(1500.25), decode: Some(240.5) });
        let only = peer(&format!("echo '[{}]'", test(0, 128, 7.0))).run(&CELL).expect("a rate");
        assert_eq!(only, PeerRates { prefill: None, decode: Some(7.0) });
    }

    #[test]
    fn keys_choose_among_values() {
        let mut peer = peer("echo '{\"a\": {\"rate\": 1.5}, \"b\": [{\"rate\": 2.5}]}'");
        peer.prefill_key = Some("rate".into());
        peer.decode_key = Some("rate[1]".into());
        assert_eq!(peer.run(&CELL).expect("rates"), PeerRates { prefill: Some(1.5), decode: Some(2.5) });
        peer.decode_key = Some("rate[2]".into());
        assert!(peer.run(&CELL).expect_err("no third").to_string().contains("`rate[2]`"));
    }

    #[test]
    fn a_peer_that_fails_is_quoted() {
        let error = peer("echo no such model >&2; exit 3").run(&CELL).expect_err("a failure").to_string();
        assert!(error.contains("no such model") && error.contains('3'), "{error}");
        assert!(peer("echo hello").run(&CELL).expect_err("no JSON").to_string().contains("not JSON"));
        assert!(peer("echo 3").run(&CELL).expect_err("no rate").to_string().contains("avg_ts"));
    }

    #[test]
    fn the_cell_is_written_into_the_command() {
        let peer = peer("run {model} -t {threads} -p {prompt} -n {gen} -d {depth} -b {batch}");
        assert_eq!(peer.expand("m.gguf", 2, &CELL).command, "run m.gguf -t 2 -p 512 -n 128 -d 0 -b 1");
    }
}
