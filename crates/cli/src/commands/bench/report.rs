//! What a cell comes to: the flat object of `--json`, and the table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use shakti_measure::{PeerRates, Spread};

/// One cell. Rates are medians, ranges `[min, max]`; `None` is what this machine does not say.
#[derive(Debug, Serialize, Deserialize)]
pub struct CellReport {
    pub model: String,
    pub format: String,
    /// What keys and values are stored as.
    pub kv_type: String,
    /// Bytes of the head's 4-bit copy (`--head-screen`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head_screen_bytes: Option<usize>,
    /// Share of the head that was read besides, over all tokens.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head_share_read: Option<f64>,
    pub threads: usize,
    pub prompt: usize,
    #[serde(rename = "gen")]
    pub generate: usize,
    pub depth: usize,
    pub batch: usize,
    pub repeat: usize,
    pub prefill_tokens_per_s: f64,
    pub prefill_tokens_per_s_range: [f64; 2],
    pub decode_tokens_per_s: f64,
    pub decode_tokens_per_s_range: [f64; 2],
    pub load_s: f64,
    pub peak_memory_bytes: Option<u64>,
    /// Weights in the file.
    pub stored_weight_bytes: u64,
    /// Weights in memory.
    pub weight_bytes: usize,
    pub kv_cache_bytes: usize,
    pub energy_source: String,
    /// Of a decoded token.
    pub joules_per_token: Option<f64>,
    pub prefill_joules_per_token: Option<f64>,
    pub co2_g_per_token: Option<f64>,
    /// Proxy of the energy of a decoded token.
    pub cpu_s_per_token: Option<f64>,
    /// Proxy of the energy of a decoded token: weights and cache.
    pub bytes_read_per_token: f64,
    pub processor: String,
    pub cores: usize,
    pub kernel_set: String,
    pub os: String,
    pub version: String,
    #[serde(flatten)]
    pub peer: Option<Comparison>,
}

/// The other program, and our rates over its rates, round by round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Comparison {
    peer_command: String,
    peer_prefill_tokens_per_s: Option<f64>,
    peer_prefill_tokens_per_s_range: Option<[f64; 2]>,
    peer_decode_tokens_per_s: Option<f64>,
    peer_decode_tokens_per_s_range: Option<[f64; 2]>,
    prefill_ratio: Option<f64>,
    prefill_ratio_range: Option<[f64; 2]>,
    decode_ratio: Option<f64>,
    decode_ratio_range: Option<[f64; 2]>,
}

impl Comparison {
    /// Compares the rounds of the peer with ours.
    pub fn new(peer_command: String, peer: &[PeerRates], prefill: &[f64], decode: &[f64]) -> Self {
        let (their_prefill, prefill) = compare(peer, |rates| rates.prefill, prefill).unzip();
        let (their_decode, decode) = compare(peer, |rates| rates.decode, decode).unzip();
        let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
        let range = |spread: Option<Spread>| spread.map(|spread| spread.range());
        Self {
            peer_command,
            peer_prefill_tokens_per_s: median(their_prefill),
            peer_prefill_tokens_per_s_range: range(their_prefill),
            peer_decode_tokens_per_s: median(their_decode),
            peer_decode_tokens_per_s_range: range(their_decode),
            prefill_ratio: median(prefill),
            prefill_ratio_range: range(prefill),
            decode_ratio: median(decode),
            decode_ratio_range: range(decode),
        }
    }
}

/// The peer's rates and our ratios to them; `None` if a round lacks the rate.
fn compare(
    peer: &[PeerRates],
    rate: impl Fn(&PeerRates) -> Option<f64>,
    ours: &[f64],
) -> Option<(Spread, Spread)> {
    let theirs: Vec<f64> = peer.iter().map(rate).collect::<Option<_>>()?;
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    (!ratios.is_empty()).then(|| (Spread::of(&theirs), Spread::of(&ratios)))
}

/// The machine, then a row a cell.
pub fn table(reports: &[CellReport]) -> String {
    let Some(first) = reports.first() else { return String::new() };
    let mut text = format!(
        "{}, {} cores, {}; kernel set {}\n{}: {}, {:.1} MB of weights, {:.1} MB in memory\n\n",
        first.processor,
        first.cores,
        first.os,
        first.kernel_set,
        first.model,
        first.format,
        first.stored_weight_bytes as f64 / 1e6,
        first.weight_bytes as f64 / 1e6
    );
    text.push_str(
        "threads prompt   gen depth batch        prefill tokens/s            decode tokens/s   load ms  peak MB  cache MB\n",
    );
    for report in reports {
        writeln!(
            text,
            "{:>7} {:>6} {:>5} {:>5} {:>5} {:>26} {:>26} {:>9.1} {:>8} {:>9.1}",
            report.threads,
            report.prompt,
            report.generate,
            report.depth,
            report.batch,
            rate(report.prefill_tokens_per_s, report.prefill_tokens_per_s_range),
            rate(report.decode_tokens_per_s, report.decode_tokens_per_s_range),
            1000.0 * report.load_s,
            optional(report.peak_memory_bytes.map(|bytes| bytes as f64 / 1e6)),
            report.kv_cache_bytes as f64 / 1e6
        )
        .expect("writing to a string");
    }
    for report in reports {
        text.push_str(&energy_line(report));
        text.push_str(&report.peer.as_ref().map_or_else(String::new, peer_line));
    }
    text.push_str("rates: median [least, most] of ");
    text + &format!("{} rounds; energy is of a decoded token", first.repeat)
}

fn energy_line(report: &CellReport) -> String {
    let cpu = report.cpu_s_per_token.map_or_else(String::new, |s| format!("{:.3} CPU ms and ", 1000.0 * s));
    let read = format!("{cpu}{:.1} MB read", report.bytes_read_per_token / 1e6);
    let grams = report.co2_g_per_token.map_or_else(String::new, |grams| format!(" ({grams:.2e} g of CO2)"));
    match report.joules_per_token {
        Some(joules) => format!("\nenergy    {joules:.4} J{grams} by {}; {read}\n", report.energy_source),
        None => format!("\nenergy    not measured; proxies: {read}\n"),
    }
}

fn peer_line(peer: &Comparison) -> String {
    let mut text = format!("peer      {}\n", peer.peer_command);
    let rows = [
        ("prefill", peer.peer_prefill_tokens_per_s, peer.prefill_ratio, peer.prefill_ratio_range),
        ("decode", peer.peer_decode_tokens_per_s, peer.decode_ratio, peer.decode_ratio_range),
    ];
    for (name, theirs, ratio, range) in rows {
        if let (Some(theirs), Some(ratio), Some([min, max])) = (theirs, ratio, range) {
            writeln!(text, "  {name:<7} {theirs:.1} tokens/s; ours over it {ratio:.2} [{min:.2}, {max:.2}]")
                .expect("writing to a string");
        }
    }
    text
}

fn rate(median: f64, [min, max]: [f64; 2]) -> String {
    format!("{median:.1} [{min:.1}, {max:.1}]")
}

fn optional(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}
