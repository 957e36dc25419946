//! `shakti train`: from a recipe to a model that generates; refusals, interruption, resumption.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use shakti_train::{Checkpoints, Log, MODEL_FOLDER, Recipe};
use tempfile::TempDir;

use crate::common::{arg, command, shakti};

/// A folder with texts, questions, a small configuration and a recipe of 12 steps for them.
pub fn data() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let organs = ["heart", "liver", "lung", "skin", "kidney"];
    let work = ["pumps blood", "cleans blood", "takes up air", "keeps water in", "makes urine"];
    let (mut texts, mut questions) = (String::new(), String::new());
    for number in 0..120 {
        let (organ, work) = (organs[number % 5], work[(number * number + number / 3) % 5]);
        let text = format!("Case {number}. The {organ} {work}. A healthy {organ} needs rest and oxygen.");
        texts += &format!("{}\n", serde_json::json!({ "text": text }));
        let question = format!("What does the {organ} do in case {number}?");
        let record = serde_json::json!({ "prompt": question, "completion": format!("The {organ} {work}.") });
        questions += &format!("{record}\n");
    }
    let config = serde_json::json!({
        "model_type": "shakti", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_kv_heads": [2, 1], "head_dim": 8, "vocab_size": 1,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_dropout": 0.05,
        "tie_word_embeddings": true, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16,
    });
    let at = folder.path().display();
    let recipe = format!(
        "[model]\nconfig = '{at}/config.json'\n\n[tokenizer.train]\nvocab_size = 300\n\n[data]\n\
         sources = [{{ path = '{at}/text.jsonl' }}]\nsplit_with = ['{at}/questions.jsonl']\n\n[train]\n\
         stage = 'pretrain'\nsequence_length = 32\nbatch_tokens = 256\nmicro_batch_tokens = 128\nsteps = 12\n\
         peak_learning_rate = 5e-3\nsave_every = 2\nvalidate_every = 6\n\n[output]\ndir = '{at}/out'\n"
    );
    let files = [
        ("text.jsonl", texts),
        ("questions.jsonl", questions),
        ("config.json", config.to_string()),
        ("recipe.toml", recipe),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

#[test]
fn pretraining_then_sft_gives_a_model_that_generates() {
    let data = data();
    let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
    let first = shakti(&["train", "pretrain", arg(&recipe), "--set", "train.steps=20", "--json"]);
    assert!(first.stderr.contains("step 20 of 20: loss "), "plain lines: {}", first.stderr);
    let first = first.json();
    assert_eq!((first["finished"].as_bool(), first["step"].as_u64()), (Some(true), Some(20)));
    let model = out.join(MODEL_FOLDER);
    assert_eq!(first["model"].as_str(), model.to_str());
    let second = data.path().join("sft");
    let overrides = [
        format!("model.from={}", model.display()),
        format!("tokenizer.path={}", model.display()),
        "train.stage=sft".into(),
        format!("data.sources=[{{ path = '{}/questions.jsonl' }}]", data.path().display()),
        format!("data.split_with=['{}/text.jsonl']", data.path().display()),
        "train.sequence_length=64".into(),
        format!("output.dir={}", second.display()),
    ];
    let mut args = vec!["train", "sft", arg(&recipe), "--quiet"];
    overrides.iter().for_each(|change| args.extend(["--set", change.as_str()]));
    let run = shakti(&args);
    assert_eq!(run.stderr, "", "--quiet shows no progress");
    assert!(run.ok().contains(&format!("model: {}", second.join(MODEL_FOLDER).display())));
    let saved = Recipe::load(&second.join("recipe.toml"), &[]).expect("the resolved recipe");
    assert_eq!(saved.model.from, Some(model));
    shakti(&["generate", "-m", arg(&second.join(MODEL_FOLDER)), "-p", "The heart", "-n", "4", "--greedy"])
        .ok();
}

#[test]
fn bad_recipes_are_refused_with_their_place_and_nothing_is_written() {
    let data = data();
    let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
    let message = shakti(&["train", "pretrain", arg(&recipe), "--set", "train.stepps=3"]).refused();
    assert!(message.contains("--set train.stepps=3: `train.stepps`: unknown field"), "{message}");
    let message = shakti(&["train", "sft", arg(&recipe)]).refused();
    assert!(message.contains("train.stage"), "{message}");
    let text = std::fs::read_to_string(&recipe).expect("the recipe");
    let wrong = data.path().join("wrong.toml");
    std::fs::write(&wrong, text.replace("steps = 12", "steps = \"many\"")).expect("a file");
    let message = shakti(&["train", "pretrain", arg(&wrong)]).refused();
    assert!(message.contains("wrong.toml:16: `train.steps`"), "{message}");
    let absent = data.path().join("absent.toml");
    assert!(shakti(&["train", "pretrain", arg(&absent)]).refused().contains("absent.toml: cannot read"));
    assert!(!out.exists());
}

#[test]
fn an_existing_run_is_refused_with_the_two_ways_on() {
    let data = data();
    let recipe = data.path().join("recipe.toml");
    shakti(&["train", "pretrain", arg(&recipe)]).ok();
    let message = shakti(&["train", "pretrain", arg(&recipe)]).refused();
    assert!(message.contains("output exists") && message.contains("--resume") && message.contains("--force"));
    shakti(&["train", "pretrain", arg(&recipe), "--resume"]).ok();
    shakti(&["train", "pretrain", arg(&recipe), "--force", "--set", "train.steps=3"]).ok();
    assert_eq!(Log::read(&data.path().join("out")).expect("a log").len(), 3);
}

#[test]
fn minutes_take_the_place_of_steps() {
    let data = data();
    let recipe = data.path().join("recipe.toml");
    let run = shakti(&["train", "pretrain", arg(&recipe), "--minutes", "0.02"]);
    assert!(run.stderr.contains("time budget: "), "{}", run.stderr);
    run.ok();
    let saved = Recipe::load(&data.path().join("out/recipe.toml"), &[]).expect("the resolved recipe");
    let steps = saved.train.steps.expect("a number of steps") as usize;
    assert_eq!(Log::read(&data.path().join("out")).expect("a log").len(), steps);
}

/// A run that has reached its first step, with its standard error still open.
#[cfg(unix)]
fn started(mut command: Command, recipe: &Path) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = command
        .args(["train", "pretrain", arg(recipe), "--set", "train.steps=100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.starts_with("step 1 ") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "the run ended early");
    }
    (child, lines)
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_ends_with_130_and_can_be_resumed() {
    // Where nohup runs the tests, SIGHUP rightly ends nothing.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("1").trim();
    let outlives_its_terminal = u64::from_str_radix(ignored, 16).expect("a mask") & 1 == 1;
    for signal in ["-INT", "-TERM", "-HUP"].into_iter().take(if outlives_its_terminal { 2 } else { 3 }) {
        let data = data();
        let (mut child, _lines) = started(command(), &data.path().join("recipe.toml"));
        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
        assert_eq!(child.wait().expect("an end").code(), Some(130), "{signal}");
        let lines = Log::read(&data.path().join("out")).expect("a log");
        let last = lines.last().expect("a line").step;
        let newest = Checkpoints::new(&data.path().join("out"), 2).newest(&mut |warning| panic!("{warning}"));
        assert_eq!(newest.expect("a list").map(|(step, _)| step), Some(last));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_nohup_started_outlives_its_terminal() {
    let data = data();
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", arg(Path::new(command().get_program()))]);
    let (mut child, mut lines) = started(ignoring, &data.path().join("recipe.toml"));
    let pid = child.id().to_string();
    let kill = |signal: &str| Command::new("kill").args([signal, pid.as_str()]).status().expect("kill");
    assert!(kill("-HUP").success());
    let mut line = String::new();
    while !line.starts_with("step 20") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "the run ended");
    }
    assert!(kill("-TERM").success());
    assert_eq!(child.wait().expect("an end").code(), Some(130));
}

/// The losses of a run as bits, and the bytes of its final weights.
pub fn result(out: &Path) -> (Vec<(u64, u64)>, Vec<u8>) {
    let lines = Log::read(out).expect("a log");
    let weights = out.join(MODEL_FOLDER).join("model.safetensors");
    let curve = lines.iter().map(|line| (line.step, line.loss.to_bits())).collect();
    (curve, std::fs::read(weights).expect("weights"))
}
