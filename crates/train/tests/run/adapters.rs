//! Adapters: trained beside a folder or a GGUF file of blocks, resumed with the same bits; nothing else changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use shakti_checkpoint::{ExportTokenizer, GgufExport, HfFolder, Overwrite, read_adapter};
use shakti_kernels::blocks::DType;
use shakti_tokenizer::Tokenizer;
use shakti_train::{ADAPTER_FOLDER, Outcome, Recipe, Start};

use crate::common::{Heard, RESUME, bytes_of, corpus, cpu, curve, recipe_text, run, run_on, sft_text};

/// A folder pretrained for a few steps, wide enough for blocks of 256.
fn base(data: &Path) -> PathBuf {
    let config = data.join("config.json");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let mut keys: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (key, value) in [("hidden_size", 256), ("intermediate_size", 256), ("head_dim", 128)] {
        keys[key] = value.into();
    }
    std::fs::write(&config, keys.to_string()).expect("a file");
    let out = data.join("base");
    let overrides = ["train.save_every=0", "train.steps=6"].map(str::to_owned);
    let recipe = Recipe::parse(&recipe_text(data, &out), "recipe.toml", &overrides).expect("a recipe");
    run(recipe, Start::New).expect("a base").model.expect("a folder")
}

/// The folder as a GGUF file of one type.
fn blocks(folder: &Path, dtype: DType) -> PathBuf {
    let source = HfFolder::open(folder).expect("a folder");
    let tokenizer = Tokenizer::open(folder).expect("a tokenizer");
    let path = folder.with_file_name(format!("{dtype}.gguf"));
    let export = GgufExport {
        config: source.config(),
        name: "base",
        file_type: 0,
        dtype: &|_| dtype,
        tokenizer: ExportTokenizer::Tokenizer(&tokenizer),
        extra: &[],
    };
    export.write(&path, Overwrite::Refuse, &source).expect("a file");
    path
}

fn lora_recipe(data: &Path, from: &Path, out: &Path, overrides: &[&str]) -> Recipe {
    let text = sft_text(data, from, out) + "[lora]\nrank = 4\nalpha = 8\nseed = 5\n";
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    Recipe::parse(&text, "lora.toml", &overrides).expect("a recipe")
}

fn losses(out: &Path) -> Vec<f64> {
    curve(out).iter().map(|line| f64::from_bits(line.1)).collect()
}

fn files(folder: &Path) -> Vec<String> {
    bytes_of(folder).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn an_adapter_learns_beside_a_folder_and_beside_blocks_which_stay_as_they_are() {
    let data = corpus();
    let folder = base(data.path());
    let bases = [folder.clone(), blocks(&folder, DType::Q4_0), blocks(&folder, DType::Q4_K)];
    for (index, from) in bases.iter().enumerate() {
        let before = std::fs::read(if from.is_dir() { from.join("model.safetensors") } else { from.clone() });
        let out = data.path().join(format!("adapted-{index}"));
        let overrides = ["train.steps=40", "train.save_every=0", "train.peak_learning_rate=1e-2"];
        let Outcome { model, .. } =
            run(lora_recipe(data.path(), from, &out, &overrides), Start::New).expect("a run");
        let losses = losses(&out);
        assert!(losses[39] < 0.7 * losses[0], "{}: {} to {}", from.display(), losses[0], losses[39]);
        assert_eq!(model, Some(out.join(ADAPTER_FOLDER)));
        let config = HfFolder::open(&folder).expect("a folder").config().clone();
        let adapter = read_adapter(&out.join(ADAPTER_FOLDER), &config).expect("an adapter");
        assert_eq!(adapter.config().rank, 4);
        let after = std::fs::read(if from.is_dir() { from.join("model.safetensors") } else { from.clone() });
        assert_eq!(before.expect("bytes"), after.expect("bytes"));
    }
}

#[test]
fn a_killed_adapter_run_goes_on_with_the_same_bits() {
    let data = corpus();
    let from = blocks(&base(data.path()), DType::Q4_0);
    let overrides = ["lora.dora=true", "lora.dropout=0.1"];
    let recipe = |out: &Path| lora_recipe(data.path(), &from, out, &overrides);
    let (whole, out) = (data.path().join("whole"), data.path().join("cut"));
    run(recipe(&whole), Start::New).expect("a run");
    let mut heard = Heard { kill_after: Some(5), ..Heard::default() };
    let killed = || run_on(&cpu(1), recipe(&out), Start::New, &mut heard);
    assert!(catch_unwind(AssertUnwindSafe(killed)).is_err());
    let mut heard = Heard::default();
    run_on(&cpu(2), recipe(&out), RESUME, &mut heard).expect("the rest");
    assert_eq!(heard.resumed, Some(4));
    assert_eq!(curve(&out), curve(&whole));
    assert!(bytes_of(&out.join(ADAPTER_FOLDER)) == bytes_of(&whole.join(ADAPTER_FOLDER)));
    let checkpoint = out.join("checkpoint-8");
    assert!(bytes_of(&checkpoint) == bytes_of(&whole.join("checkpoint-8")));
    let expected = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "checksums.sha256",
        "training_state.json",
        "training_state.safetensors",
    ];
    assert_eq!(files(&checkpoint), expected);
}

#[test]
fn a_gguf_base_without_an_adapter_needs_the_files_of_a_tokenizer() {
    let data = corpus();
    let from = blocks(&base(data.path()), DType::Q8_0);
    let mut recipe = lora_recipe(data.path(), &from, &data.path().join("out"), &[]);
    recipe.lora = None;
    let error = run(recipe.clone(), Start::New).expect_err("no tokenizer.json").to_string();
    assert!(error.contains("tokenizer.path") && error.contains("[lora]"), "{error}");
    recipe.tokenizer.path = Some(data.path().join("base/model"));
    let model = run(recipe, Start::New).expect("a run").model.expect("a folder");
    assert!(HfFolder::open(model).is_ok());
}
