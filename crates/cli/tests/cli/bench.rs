//! `shakti bench`.

use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::common::{Run, arg, command, fixture, model, repository, shakti};

/// Few tokens, so that a debug build does it at once.
const SMALL: [&str; 6] = ["--prompt", "8", "--gen", "4", "--repeat", "3"];

fn bench(model: &Path, more: &[&str]) -> Run {
    shakti(&[&["bench", "-m", arg(model)], &SMALL[..], more].concat())
}

fn number(cell: &Value, key: &str) -> f64 {
    cell[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {cell}"))
}

#[track_caller]
fn assert_median_in_range(cell: &Value, key: &str) {
    let range = &cell[format!("{key}_range")];
    let (min, max) = (range[0].as_f64().expect("a number"), range[1].as_f64().expect("a number"));
    let median = number(cell, key);
    assert!(0.0 < min && min <= median && median <= max, "{key}: {median} in {range}");
}

#[test]
fn a_cell_is_one_flat_object_with_everything_that_a_record_needs() {
    let file = repository("golden/gguf/spm_q4_0.gguf");
    let cell = bench(&file, &["--json"]).json();
    assert_median_in_range(&cell, "prefill_tokens_per_s");
    assert_median_in_range(&cell, "decode_tokens_per_s");
    assert_eq!((&cell["prompt"], &cell["gen"], &cell["repeat"]), (&8.into(), &4.into(), &3.into()));
    assert_eq!((&cell["threads"], &cell["depth"], &cell["batch"]), (&1.into(), &0.into(), &1.into()));
    assert_eq!(cell["format"], "q4_0");
    assert!(cell["processor"].is_string() && cell["os"].is_string() && cell["kernel_set"].is_string());
    assert!(number(&cell, "load_s") > 0.0 && number(&cell, "cores") >= 1.0);
    let stored = number(&cell, "stored_weight_bytes");
    assert!(stored > 0.0 && stored < fs::metadata(&file).expect("a file").len() as f64);
    assert!(number(&cell, "weight_bytes") >= stored && number(&cell, "kv_cache_bytes") > 0.0);
    for (key, value) in cell.as_object().expect("an object") {
        assert!(!value.is_object(), "`{key}` is not flat");
    }
    #[cfg(target_os = "linux")]
    assert!(number(&cell, "peak_memory_bytes") > number(&cell, "weight_bytes"));
}

#[test]
fn a_folder_has_a_format_too() {
    let cell = bench(&model(), &["--json"]).json();
    assert_eq!(cell["format"], "f32");
    assert_eq!(
        cell["stored_weight_bytes"],
        shakti(&["model", "info", arg(&model()), "--json"]).json()["stored_bytes"]
    );
}

#[test]
fn values_with_commas_are_an_array_of_every_combination() {
    let run = bench(&model(), &["--threads", "1,2", "--depth", "0,70", "--batch", "1,3", "--json"]);
    assert_eq!(run.stderr, "", "nothing on standard error without a terminal");
    let cells = run.json();
    let key = |cell: &Value| ["threads", "batch", "depth"].map(|key| cell[key].as_u64().expect("a number"));
    let keys: Vec<[u64; 3]> = cells.as_array().expect("an array").iter().map(key).collect();
    let expected: Vec<[u64; 3]> = [1, 2]
        .into_iter()
        .flat_map(|threads| {
            [1, 3].into_iter().flat_map(move |batch| [0, 70].map(|depth| [threads, batch, depth]))
        })
        .collect();
    assert_eq!(keys, expected);
    // Three sequences share the pass over the weights and have a cache each.
    let [alone, together] = [&cells[0], &cells[2]];
    assert_eq!(number(together, "kv_cache_bytes"), 3.0 * number(alone, "kv_cache_bytes"));
    assert!(number(together, "bytes_read_per_token") < 0.5 * number(alone, "bytes_read_per_token"));
    let deep = number(&cells[1], "bytes_read_per_token") - number(alone, "bytes_read_per_token");
    // Layer 0 sees 48 keys of 2 heads, layer 1 every key of 1 head, at 72.5 instead of 2.5 tokens on average; f16.
    assert_eq!(deep, f64::from(2 * 2 * 16) * ((48.0 - 2.5) * 2.0 + 70.0));
}

#[test]
fn the_table_shows_a_row_a_cell() {
    let text = bench(&model(), &["--depth", "0,16"]).ok();
    let rows: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("1 ")).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert!(text.contains("tokens/s") && text.contains("not measured; proxies"), "{text}");
}

/// A tree of energy counters like Linux's.
fn powercap(name: &str, microjoules: u64) -> PathBuf {
    let root = fixture().join(name);
    let zone = root.join("intel-rapl:0");
    fs::create_dir_all(&zone).expect("a folder");
    fs::write(zone.join("name"), "package-0\n").expect("a file");
    fs::write(zone.join("max_energy_range_uj"), "262143328850\n").expect("a file");
    fs::write(zone.join("energy_uj"), format!("{microjoules}\n")).expect("a file");
    root
}

#[test]
fn energy_is_measured_where_a_counter_counts() {
    let root = powercap("powercap", 0);
    let mut child = command()
        .args(["bench", "-m", arg(&model()), "--json", "--grid", "400", "--powercap", arg(&root)])
        // Rounds so long that the counter moves in each, whatever else the machine does.
        .args(["--prompt", "64", "--gen", "128", "--batch", "128", "--repeat", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // Digits written over digits need no other file and no waiting for a disk. A reader may find some old and some new
    // ones; all stand for whole joules.
    let mut counter =
        fs::OpenOptions::new().write(true).open(root.join("intel-rapl:0/energy_uj")).expect("a file");
    let mut joules = 0;
    while child.try_wait().expect("a child").is_none() {
        joules += 1;
        counter.rewind().expect("a file");
        counter.write_all(format!("{joules:014}000000").as_bytes()).expect("a file");
    }
    let cell = Run::new(child.wait_with_output().expect("the binary ends")).json();
    assert_eq!(cell["energy_source"], "rapl: package-0");
    let joules = number(&cell, "joules_per_token");
    assert!(joules > 0.0);
    // The counter moves by whole joules, a round has 128 x 128 tokens.
    assert_eq!((joules * 16384.0).fract(), 0.0, "{joules}");
    assert!((number(&cell, "co2_g_per_token") / (joules / 3.6e6 * 400.0) - 1.0).abs() < 1e-12);
}

#[test]
fn without_a_counter_that_counts_there_are_proxies() {
    let still = powercap("powercap-still", 5);
    for root in [still, fixture().join("no-powercap")] {
        let run = bench(&model(), &["--json", "--powercap", arg(&root), "--grid", "400"]);
        assert!(run.stderr.contains("no grams of CO2"), "{}", run.stderr);
        let cell = run.json();
        assert_eq!(cell["energy_source"], "none: proxies");
        assert!(cell["joules_per_token"].is_null() && cell["co2_g_per_token"].is_null(), "{cell}");
        assert!(number(&cell, "bytes_read_per_token") > 0.0);
        #[cfg(unix)]
        assert!(number(&cell, "cpu_s_per_token") > 0.0);
    }
}

#[cfg(unix)]
#[test]
fn a_peer_runs_in_turn_and_ratios_are_taken_round_by_round() {
    let log = fixture().join("peer.log");
    // Prints a rate that doubles from run to run, as llama-bench prints it.
    let peer = format!(
        "echo {{prompt}} {{gen}} {{depth}} {{batch}} {{threads}} {{model}} >> '{0}'; r=$((1 << $(wc -l < '{0}'))); \
         echo \"[{{\\\"n_prompt\\\": 8, \\\"n_gen\\\": 0, \\\"avg_ts\\\": $r}}, {{\\\"n_prompt\\\": 0, \\\"n_gen\\\": 4, \\\"avg_ts\\\": 0.5}}]\"",
        log.display()
    );
    let cell = bench(&model(), &["--json", "--peer", &peer]).json();
    let lines = fs::read_to_string(&log).expect("the peer ran");
    assert_eq!(
        lines,
        format!("8 4 0 1 1 {}\n", model().display()).repeat(3),
        "once a round, none to warm up"
    );
    assert_eq!(number(&cell, "peer_prefill_tokens_per_s"), 4.0);
    assert_eq!(cell["peer_prefill_tokens_per_s_range"], serde_json::json!([2.0, 8.0]));
    assert_eq!(number(&cell, "decode_ratio"), number(&cell, "decode_tokens_per_s") / 0.5);
    assert_median_in_range(&cell, "prefill_ratio");
    // The rounds are ours, theirs, ours, theirs: ratios of pairs, not the ratio of medians of different rounds.
    let most = cell["prefill_ratio_range"][1].as_f64().expect("a number");
    assert!(most <= cell["prefill_tokens_per_s_range"][1].as_f64().expect("a number") / 2.0);
    let text = bench(&model(), &["--peer", "echo '{\"speed\": 2}'", "--peer-decode-key", "speed"]).ok();
    assert!(text.contains("ours over it"), "{text}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (flag, value) in
        [("--prompt", "0"), ("--gen", "0"), ("--batch", "0"), ("--repeat", "0"), ("--threads", "0,1")]
    {
        let message = bench(&model(), &[flag, value]).refused();
        assert!(message.contains(flag), "{message}");
    }
    let message = bench(&model(), &["--depth", "0,245"]).refused();
    assert!(message.contains("257 tokens") && message.contains("context is 256"), "{message}");
    let message = bench(Path::new("no/such/model"), &[]).refused();
    assert!(message.contains("no/such/model: no such file or folder"), "{message}");
    assert!(bench(&model(), &["--grid=-1"]).refused().contains("--grid"));
    let message = shakti(&["perplexity", "--threads", "1,2", "-m", arg(&model()), "x"]).refused();
    assert!(message.contains("expected one number"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_peer_that_fails_is_quoted() {
    let message = bench(&model(), &["--peer", "echo out of order >&2; exit 7"]).refused();
    assert!(message.contains("out of order"), "{message}");
    assert!(bench(&model(), &["--peer", "echo '[]'"]).refused().contains("avg_ts"));
}

/// A shape that a step goes through at once.
const TINY: [&str; 16] = [
    "--layers",
    "2",
    "--hidden",
    "32",
    "--ffn",
    "48",
    "--heads",
    "4",
    "--kv-heads",
    "2",
    "--vocab",
    "97",
    "--batch",
    "2",
    "--seq",
    "16",
];

#[test]
fn training_steps_are_one_flat_object_with_the_speed_and_the_memory() {
    for precision in ["f32", "bf16", "int16"] {
        let more = ["--steps", "3", "--precision", precision, "--json"];
        let report = shakti(&[&["bench", "train"], &TINY[..], &more].concat()).json();
        assert_median_in_range(&report, "tokens_per_s");
        assert!(number(&report, "peak_memory_bytes") > 1e6);
        // Embedding (the head is the same), two layers of q, k, v, o, two norms, gate, up and down, the last norm.
        let layer = 2 * 32 * 32 + 2 * 16 * 32 + 2 * 32 + 3 * 32 * 48;
        assert_eq!(number(&report, "parameters"), f64::from(97 * 32 + 2 * layer + 32));
        assert_eq!(
            (&report["precision"], &report["steps"], &report["threads"]),
            (&precision.into(), &3.into(), &1.into())
        );
    }
    let text = shakti(&[&["bench", "train", "--steps", "1"], &TINY[..]].concat()).ok();
    assert!(text.contains("training ") && text.contains(" tokens/s ["), "{text}");
}

#[test]
fn steps_of_an_adapter_beside_floats_and_blocks_are_measured_too() {
    for base in [&[][..], &["--base-type", "q4_0"]] {
        let more = ["--steps", "1", "--lora-rank", "4", "--json"];
        let report = shakti(&[&["bench", "train"], &TINY[..], &more, base].concat()).json();
        // Inputs and outputs of q, k, v, o, gate, up and down of two layers.
        let layer = 2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48);
        assert_eq!(number(&report, "trained"), f64::from(2 * 4 * layer));
        assert!(number(&report, "tokens_per_s") > 0.0);
    }
    let refused = shakti(&[&["bench", "train"], &TINY[..], &["--base-type", "q4_0"]].concat()).refused();
    assert!(refused.contains("--lora-rank"), "{refused}");
}

#[test]
fn shapes_that_cannot_be_trained_and_a_missing_model_are_refused_by_name() {
    let refused = |args: &[&str]| shakti(&[&["bench", "train"], args].concat()).refused();
    assert!(refused(&["--hidden", "100", "--heads", "3"]).contains("--hidden 100: expected a multiple"));
    assert!(
        refused(&["--heads", "8", "--kv-heads", "3"])
            .contains("--heads 8: expected a multiple of --kv-heads 3")
    );
    assert!(refused(&["--layers", "0"]).contains("--layers"));
    assert!(refused(&["--threads", "1,2"]).contains("--threads"));
    assert!(shakti(&["bench"]).refused().contains("--model <MODEL>"));
}
