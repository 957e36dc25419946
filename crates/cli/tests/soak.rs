//! A training run killed at random moments and resumed: never an unreadable checkpoint, the same bits in the end.
//!
//! `SHAKTI_SOAK_KILLS` sets the number of kills (20 otherwise); `cargo xtask soak` sets it to 500.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shakti_checkpoint::{HfFolder, verify_manifest};

const CONFIG: &str = r#"{"model_type":"shakti","hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,
"num_attention_heads":4,"num_kv_heads":[2,1],"head_dim":8,"max_position_embeddings":128,
"layer_types":["sliding_attention","block_sparse_attention"],"sliding_window":32,"tie_word_embeddings":true,
"rms_norm_eps":1e-5,"rope_theta":10000.0,"vocab_size":280}"#;

const RECIPE: &str = r#"
[model]
config = "config.json"
overrides = { hidden_dropout = 0.1 }
[tokenizer]
train = { vocab_size = 280 }
[data]
sources = [{ path = "a.txt", weight = 2.0 }, { path = "b.jsonl", weight = 1.0 }]
[train]
stage = "pretrain"
sequence_length = 64
batch_tokens = 256
micro_batch_tokens = 128
steps = 200
peak_learning_rate = 3e-3
warmup_steps = 20
validate_every = 40
validation_tokens = 512
save_every = 2
seed = 7
[output]
dir = "run"
"#;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// A folder with everything that a run needs; in memory where the system offers that, because what a kill leaves
/// behind does not depend on the disk, and waiting for the disk would be most of the test.
fn prepare() -> tempfile::TempDir {
    let folder =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
    let mut random = Random(1);
    let words =
        ["heart", "blood", "lungs", "the", "of", "pain", "is", "treated", "with", "rest", "and", "water"];
    let mut sentence = || {
        let words: Vec<&str> = (0..30).map(|_| words[random.below(words.len() as u64) as usize]).collect();
        words.join(" ")
    };
    let plain: String = (0..60).map(|_| sentence() + ".\n\n\n").collect();
    let lines: String = (0..60).map(|_| format!("{{\"text\":\"{}.\"}}\n", sentence())).collect();
    for (name, text) in
        [("config.json", CONFIG), ("recipe.toml", RECIPE), ("a.txt", &plain), ("b.jsonl", &lines)]
    {
        std::fs::write(folder.path().join(name), text).expect("writing a file");
    }
    folder
}

fn start(folder: &Path, threads: u64) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shakti"));
    command.current_dir(folder).args([
        "train",
        "pretrain",
        "recipe.toml",
        "--resume",
        "--quiet",
        "--threads",
    ]);
    command.arg(threads.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("starting shakti")
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// The weights of a finished run and its loss curve.
fn outcome(folder: &Path) -> (Vec<u8>, Vec<Value>) {
    let run = folder.join("run");
    let weights = std::fs::read(run.join("model/model.safetensors")).expect("the finished model");
    let log = std::fs::read_to_string(run.join("log.jsonl")).expect("the log");
    let mut lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        line.retain(|key, _| !["time_s", "tokens_per_s"].contains(&key.as_str()));
    }
    (weights, lines)
}

/// Step and folder of the newest checkpoint, complete or not.
fn newest_checkpoint(folder: &Path) -> Option<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder.join("run")).ok()?;
    let step = |path: PathBuf| {
        let step = path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok()?;
        Some((step, path))
    };
    entries.filter_map(|entry| step(entry.expect("an entry").path())).max()
}

/// Kills a run after a random part of `duration`; false if it ended before.
fn kill_at_random(folder: &Path, random: &mut Random, duration: Duration) -> bool {
    let mut child = start(folder, 1 + random.below(2));
    let moment = Duration::from_micros(random.below(duration.as_micros() as u64));
    std::thread::sleep(moment);
    let ended = child.try_wait().expect("asking for the state").is_some();
    child.kill().expect("killing");
    let output = child.wait_with_output().expect("waiting");
    if ended {
        assert_success(&output);
    }
    !ended
}

#[test]
fn a_run_killed_at_random_moments_ends_with_the_same_bits() {
    let kills: u64 = match std::env::var("SHAKTI_SOAK_KILLS") {
        Ok(text) => text.parse().expect("SHAKTI_SOAK_KILLS is a number"),
        Err(_) => 20,
    };
    let reference = prepare();
    let begin = Instant::now();
    assert_success(&start(reference.path(), 2).wait_with_output().expect("waiting"));
    let duration = begin.elapsed();
    let expected = outcome(reference.path());
    assert_eq!(expected.1.len(), 200, "one line a step");

    let mut random = Random(2);
    let (mut killed, mut runs, mut checked) = (0, 0, 0);
    while killed < kills {
        let folder = prepare();
        let mut saved = 0;
        while killed < kills && kill_at_random(folder.path(), &mut random, duration) {
            killed += 1;
            if let Some((step, path)) = newest_checkpoint(folder.path()) {
                verify_manifest(&path).unwrap_or_else(|error| panic!("kill {killed}: {error}"));
                HfFolder::open(&path).unwrap_or_else(|error| panic!("kill {killed}: {error}"));
                assert!(step >= saved, "kill {killed}: step {saved} was saved, now the newest is {step}");
                (saved, checked) = (step, checked + 1);
            }
            assert!(
                saved > 0 || newest_checkpoint(folder.path()).is_none(),
                "kill {killed}: a checkpoint is gone"
            );
        }
        assert_success(&start(folder.path(), 2).wait_with_output().expect("waiting"));
        let (weights, log) = outcome(folder.path());
        assert!(weights == expected.0, "run {runs}, after {killed} kills: the weights differ");
        assert_eq!(log, expected.1, "run {runs}, after {killed} kills: the loss curve differs");
        runs += 1;
    }
    println!(
        "soak: {killed} kills over {runs} runs of 200 steps; {checked} checkpoints checked, all readable; final weights and loss curves the same bits as uninterrupted"
    );
}
