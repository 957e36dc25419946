//! A small corpus, a small model, a recipe for both, and an observer that remembers.

use std::path::Path;
use std::sync::Arc;

use shakti_kernels::{Cpu, KernelSet};
use shakti_train::{Event, LogLine, Observer, Outcome, Pace, Recipe, RunSettings, Start, TrainError, train};
use tempfile::TempDir;

/// Words whose order the model can learn.
const SUBJECTS: [&str; 6] = ["the heart", "the liver", "a nurse", "the blood", "a virus", "the skin"];
const VERBS: [&str; 5] = ["carries", "protects", "needs", "cleans", "changes"];
const OBJECTS: [&str; 7] = ["oxygen", "the body", "water", "cells", "sugar", "the lungs", "rest"];

fn sentence(number: usize) -> String {
    let pick = |list: &[&'static str], factor: usize| list[(number * factor + number / 7) % list.len()];
    format!("{} {} {}.", pick(&SUBJECTS, 5), pick(&VERBS, 3), pick(&OBJECTS, 11))
}

/// A folder with `text.jsonl`, `chat.jsonl` and `config.json`.
pub fn corpus() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut texts, mut chats) = (String::new(), String::new());
    for number in 0..150 {
        let sentences: Vec<String> = (0..3 + number % 9).map(|part| sentence(number * 10 + part)).collect();
        let record = serde_json::json!({ "text": sentences.join(" "), "document": format!("d{number}") });
        texts += &format!("{record}\n");
        let (subject, rest) = (SUBJECTS[number % 6], sentence(number + 3));
        let record =
            serde_json::json!({ "prompt": format!("What about {subject} {number}?"), "completion": rest });
        chats += &format!("{record}\n");
    }
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write("text.jsonl", &texts);
    write("chat.jsonl", &chats);
    let config = serde_json::json!({
        "model_type": "shakti", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_kv_heads": [2, 1], "head_dim": 8,
        "vocab_size": 1, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "layer_types": ["sliding_attention", "block_sparse_attention"],
        "sliding_window": 16, "hidden_dropout": 0.05, "norm_type": "rms_norm", "hidden_act": "silu",
        "attention_bias": false, "mlp_bias": false,
        "block_sparse": {"block_size": 64, "local_blocks": 3, "random_blocks": 3, "global_blocks": 1, "seed": 0},
    });
    write("config.json", &config.to_string());
    write("pairs.jsonl", &pairs());
    folder
}

/// Questions with an answer and the same one backwards; in one of them both are the same.
fn pairs() -> String {
    let pair = |number: usize| {
        let prompt = format!("What about {} {number}?", SUBJECTS[number % 6]);
        let chosen = sentence(number + 3);
        let backwards = chosen.split(' ').rev().collect::<Vec<_>>().join(" ");
        let rejected = if number == 33 { &chosen } else { &backwards };
        serde_json::json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected }).to_string()
    };
    (0..150).map(|number| pair(number) + "\n").collect()
}

/// The recipe of a stage that begins with the weights at `from` and reads `pairs.jsonl`; `sections` end it.
pub fn stage_text(data: &Path, from: &Path, out: &Path, stage: &str, sections: &str) -> String {
    let text = sft_text(data, from, out).replace("'sft'", &format!("'{stage}'"));
    text.replace("chat.jsonl", "pairs.jsonl").replace("validation_tokens = 256", "validation_tokens = 1024")
        + sections
}

/// A recipe of 9 steps of two micro-batches, saved every second step, as TOML.
pub fn recipe_text(data: &Path, out: &Path) -> String {
    format!(
        "[model]\nconfig = '{0}/config.json'\n[tokenizer.train]\nvocab_size = 300\n\
         [data]\nsources = [{{ path = '{0}/text.jsonl' }}]\nsplit_with = ['{0}/chat.jsonl']\n\
         [train]\nstage = 'pretrain'\nsequence_length = 32\nbatch_tokens = 256\nmicro_batch_tokens = 128\n\
         steps = 9\npeak_learning_rate = 5e-3\nwarmup_steps = 2\nvalidate_every = 4\nsave_every = 2\n\
         validation_tokens = 256\nseed = 7\nprecision = 'f32'\n[output]\ndir = '{1}'\n",
        data.display(),
        out.display()
    )
}

/// The same for fine-tuning on the conversations, from the weights at `from`.
pub fn sft_text(data: &Path, from: &Path, out: &Path) -> String {
    let config = format!("config = '{}/config.json'", data.display());
    recipe_text(data, out)
        .replace(&config, &format!("from = '{}'", from.display()))
        .replace("[tokenizer.train]\nvocab_size = 300\n", "")
        .replace("'pretrain'", "'sft'")
        .replace("sequence_length = 32", "sequence_length = 64")
        .replace("text.jsonl", "other.jsonl")
        .replace("chat.jsonl", "text.jsonl")
        .replace("other.jsonl", "chat.jsonl")
}

pub fn recipe(data: &Path, out: &Path, overrides: &[&str]) -> Recipe {
    let overrides: Vec<String> = overrides.iter().map(|item| item.to_string()).collect();
    Recipe::parse(&recipe_text(data, out), "recipe.toml", &overrides).expect("a valid recipe")
}

/// What a run said.
#[derive(Default)]
pub struct Heard {
    pub warnings: Vec<String>,
    pub resumed: Option<u64>,
    pub saved: Vec<u64>,
    pub timed: Option<(f64, u64)>,
    pub lines: Vec<LogLine>,
    /// Step and best validation where improvement ended.
    pub exhausted: Option<(u64, (u64, f64))>,
    /// Steps and loss of a final model that is not the last.
    pub chosen: Option<(Vec<u64>, Option<f64>)>,
    /// Rows read and rows left out.
    pub left_out: Option<(usize, usize)>,
    /// Panics after this step, as a kill at that moment would end the process.
    pub kill_after: Option<u64>,
}

impl Observer for Heard {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Warning(text) => self.warnings.push(text.to_string()),
            Event::Resumed { step, .. } => self.resumed = Some(*step),
            Event::LeftOut(rows) => self.left_out = Some((rows.read(), rows.rows().len())),
            Event::Saved { step, .. } => self.saved.push(*step),
            Event::Exhausted { step, best } => self.exhausted = Some((*step, *best)),
            Event::Final { steps, validation_loss } => self.chosen = Some((steps.to_vec(), *validation_loss)),
            Event::Timed { seconds_per_step, steps } => self.timed = Some((*seconds_per_step, *steps)),
            Event::Step { line, .. } => {
                self.lines.push((*line).clone());
                assert!(self.kill_after != Some(line.step), "killed");
            }
            _ => {}
        }
    }
}

pub fn cpu(threads: usize) -> Arc<Cpu> {
    Arc::new(Cpu::new(KernelSet::best().expect("a kernel set"), threads))
}

pub const RESUME: Start = Start::Resume { allow_other_kernels: false };

pub fn run_on(
    cpu: &Arc<Cpu>,
    recipe: Recipe,
    start: Start,
    heard: &mut Heard,
) -> Result<Outcome, TrainError> {
    let stage = recipe.train.stage;
    let settings = RunSettings { recipe, cpu, start, stop: &|| false, pace: Pace::default(), ranks: None };
    train(settings, stage, heard)
}

pub fn run(recipe: Recipe, start: Start) -> Result<Outcome, TrainError> {
    run_on(&cpu(2), recipe, start, &mut Heard::default())
}

/// Every file of a folder with its bytes, by relative name.
pub fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).expect("bytes");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

/// What objectives measured, as bits.
pub fn measures(out: &Path) -> Vec<Vec<(String, u64)>> {
    let lines = shakti_train::Log::read(out).expect("a log");
    let bits =
        |line: LogLine| line.measures.into_iter().map(|(name, value)| (name, value.to_bits())).collect();
    lines.into_iter().map(bits).collect()
}

/// The part of the log that does not depend on the clock, as bits.
pub fn curve(out: &Path) -> Vec<(u64, u64, u64, u64, u64, Option<u64>)> {
    let lines = shakti_train::Log::read(out).expect("a log");
    let bits = |line: &LogLine| {
        let validation = line.validation_loss.map(f64::to_bits);
        let (loss, norm, rate) =
            (line.loss.to_bits(), line.grad_norm.to_bits(), line.learning_rate.to_bits());
        (line.step, loss, norm, rate, line.tokens, validation)
    };
    lines.iter().map(bits).collect()
}
