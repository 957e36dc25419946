//! Recipes: defaults, overrides, refusals with their place, and the documentation of every key.

use std::path::Path;

use super::*;
use crate::TrainError;

const MINIMAL: &str = r#"[model]
preset = "shakti-nano"

[tokenizer.train]
vocab_size = 512

[data]
sources = [
    { path = "a.jsonl", weight = 1.0 },
    { path = "b.jsonl", weight = 2 },
]

[train]
stage = "pretrain"
sequence_length = 64
batch_tokens = 256
steps = 100
peak_learning_rate = 1e-3

[output]
dir = "out"
"#;

fn parse(text: &str, overrides: &[&str]) -> Result<Recipe, TrainError> {
    let overrides: Vec<String> = overrides.iter().map(|item| item.to_string()).collect();
    Recipe::parse(text, "nano.toml", &overrides)
}

/// Place, key and problem of the refusal.
fn refusal(text: &str, overrides: &[&str]) -> (String, String, String) {
    match parse(text, overrides) {
        Err(TrainError::Recipe { place, key, problem }) => (place, key, problem),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn defaults_are_filled_in_and_written_out() {
    let recipe = parse(MINIMAL, &[]).expect("a valid recipe");
    assert_eq!(recipe.train.adamw.betas, [0.9, 0.95]);
    assert_eq!(recipe.train.schedule, ScheduleKind::Cosine);
    assert_eq!(recipe.data.sources[1].weight, Some(2.0));
    let written = recipe.to_toml();
    assert!(written.contains("clip_grad_norm = 1.0"), "{written}");
    assert_eq!(Recipe::parse(&written, "written", &[]).expect("our own text"), recipe);
}

#[test]
fn overrides_replace_and_add_values_of_every_type() {
    let overrides = [
        "train.steps=7",
        "model.preset=shakti-100m",
        "model.overrides.hidden_dropout=0.1",
        "train.adamw.betas=[0.8, 0.9]",
        "output.dir=/tmp/a b",
        "train.schedule=\"wsd\"",
    ];
    let recipe = parse(MINIMAL, &overrides).expect("valid overrides");
    assert_eq!(recipe.train.steps, Some(7));
    assert_eq!(recipe.model.preset.as_deref(), Some("shakti-100m"));
    assert_eq!(recipe.model.overrides["hidden_dropout"].as_float(), Some(0.1));
    assert_eq!(recipe.train.adamw.betas, [0.8, 0.9]);
    assert_eq!(recipe.output.dir, Path::new("/tmp/a b"));
    assert_eq!(recipe.train.schedule, ScheduleKind::Wsd);
}

#[test]
fn an_override_takes_the_place_of_keys_that_exclude_it() {
    let overrides = ["train.minutes=2", "train.warmup_steps=3", "train.warmup_share=0.1", "model.from=a/b"];
    let recipe = parse(MINIMAL, &[&overrides[..], &["tokenizer.path=t"]].concat()).expect("valid overrides");
    assert_eq!((recipe.train.steps, recipe.train.minutes), (None, Some(2.0)));
    assert_eq!((recipe.train.warmup_steps, recipe.train.warmup_share), (None, Some(0.1)));
    assert_eq!((recipe.model.preset, recipe.model.from), (None, Some("a/b".into())));
    assert!(recipe.tokenizer.train.is_none());
    let (_, key, _) = refusal(MINIMAL, &["train={ steps = 5, minutes = 2 }"]);
    assert_eq!(key, "train.minutes");
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_name() {
    let text = MINIMAL.replace("steps = 100", "stepps = 100");
    let (place, key, problem) = refusal(&text, &[]);
    assert_eq!((place.as_str(), key.as_str()), ("nano.toml:17", "train.stepps"));
    assert!(problem.contains("unknown field") && problem.contains("`steps`"), "{problem}");
    let text = MINIMAL.replace("weight = 2", "wait = 2");
    let (place, key, _) = refusal(&text, &[]);
    assert_eq!((place.as_str(), key.as_str()), ("nano.toml:10", "data.sources.wait"));
}

#[test]
fn an_unknown_override_is_refused_with_what_was_typed() {
    let (place, key, _) = refusal(MINIMAL, &["train.steps=5", "train.stepps=7"]);
    assert_eq!((place.as_str(), key.as_str()), ("--set train.stepps=7", "train.stepps"));
    let (place, _, _) = refusal(MINIMAL, &["train.steps"]);
    assert_eq!(place, "--set train.steps");
    let (place, key, problem) = refusal(MINIMAL, &["train.steps=many"]);
    assert_eq!((place.as_str(), key.as_str()), ("--set train.steps=many", "train.steps"));
    assert!(problem.contains("invalid type"), "{problem}");
}

#[test]
fn a_wrong_type_and_text_that_is_not_toml_name_the_line() {
    let text = MINIMAL.replace("sequence_length = 64", "sequence_length = \"long\"");
    let (place, key, _) = refusal(&text, &[]);
    assert_eq!((place.as_str(), key.as_str()), ("nano.toml:15", "train.sequence_length"));
    let (place, _, _) = refusal("[model]\npreset = \n", &[]);
    assert_eq!(place, "nano.toml:2");
    let (_, _, problem) = refusal("[model]\npreset = \"shakti-nano\"\n", &[]);
    assert!(problem.contains("missing field `data`"), "{problem}");
}

#[test]
fn values_out_of_range_are_refused_with_their_line() {
    let cases = [
        ("steps = 100", "steps = 0", "train.steps"),
        ("batch_tokens = 256", "batch_tokens = 256\nmicro_batch_tokens = 100", "train.micro_batch_tokens"),
        ("batch_tokens = 256", "batch_tokens = 32", "train.batch_tokens"),
        ("peak_learning_rate = 1e-3", "peak_learning_rate = -1.0", "train.peak_learning_rate"),
        ("peak_learning_rate = 1e-3", "peak_learning_rate = nan", "train.peak_learning_rate"),
        ("steps = 100", "steps = 100\nminutes = 2.0", "train.minutes"),
        ("steps = 100", "steps = 100\nwarmup_steps = 101", "train.warmup_steps"),
        ("steps = 100", "steps = 100\nclip_grad_norm = nan", "train.clip_grad_norm"),
        ("steps = 100", "minutes = inf", "train.minutes"),
        ("steps = 100", "steps = 100\nadamw.eps = 0.0", "train.adamw.eps"),
        ("steps = 100", "steps = 100\nadamw.betas = [0.9, 1.0]", "train.adamw.betas"),
        ("steps = 100", "steps = 100\nkeep_checkpoints = 0", "train.keep_checkpoints"),
        ("[data]", "[data]\nvalidation_share = 0.6", "data.validation_share"),
        ("weight = 1.0", "weight = 0", "data.sources"),
        (", weight = 1.0", "", "data.sources"),
        ("preset = \"shakti-nano\"", "", "model"),
        ("preset = \"shakti-nano\"", "preset = \"shakti-nano\"\nfrom = \"a\"", "model"),
        ("[tokenizer.train]\nvocab_size = 512", "", "tokenizer"),
        ("preset = \"shakti-nano\"", "from = \"a\"", "tokenizer.train"),
        ("[data]", "[model.overrides]\nvocab_size = 5\n[data]", "model.overrides"),
        ("[data]", "[model.overrides]\nhidden_dropout = nan\n[data]", "model.overrides"),
        ("[data]", "[model.overrides]\nrope = [{ theta = inf }]\n[data]", "model.overrides"),
    ];
    for (old, new, expected) in cases {
        let text = MINIMAL.replacen(old, new, 1);
        assert_ne!(text, MINIMAL, "{old} is not in the recipe");
        let (place, key, problem) = refusal(&text, &[]);
        assert_eq!(key, expected, "{new}: {problem}");
        let has_table = text.contains(&format!("[{}", key.split('.').next().unwrap_or_default()));
        assert!(!has_table || place.starts_with("nano.toml:"), "{new}: {place}");
    }
}

#[test]
fn a_lora_section_has_defaults_and_is_checked() {
    let text = MINIMAL
        .replace("preset = \"shakti-nano\"", "from = \"base.gguf\"")
        .replace("[tokenizer.train]\nvocab_size = 512\n", "");
    let recipe = parse(&text, &["lora.rank=8"]).expect("a valid recipe");
    let lora = recipe.lora.expect("a section");
    assert_eq!((lora.rank, lora.alpha, lora.targets.len(), lora.dora), (8, 32.0, 7, false));
    let cases = [
        ("lora.rank=0", "lora.rank", "0, expected 1 to 4096"),
        ("lora.alpha=-2", "lora.alpha", "-2, expected more than 0"),
        ("lora.dropout=1.0", "lora.dropout", "1, expected 0 up to but not including 1"),
        ("lora.targets=[]", "lora.targets", "none, expected some of q_proj"),
        ("lora.targets=[\"lm_head\"]", "lora.targets", "`lm_head`, expected some of q_proj"),
        ("lora.r=4", "lora.r", "unknown field `r`"),
    ];
    for (change, expected_key, expected) in cases {
        let (place, key, problem) = refusal(&text, &[change]);
        assert_eq!((place.as_str(), key.as_str()), (format!("--set {change}").as_str(), expected_key));
        assert!(problem.contains(expected), "{problem}");
    }
    let (_, key, problem) = refusal(MINIMAL, &["lora.rank=8"]);
    assert!(key == "lora" && problem.contains("`model.from`"), "{key}: {problem}");
}

#[test]
fn fixing_the_steps_turns_shares_into_counts() {
    let text = MINIMAL.replace("steps = 100", "minutes = 1.5\nwarmup_share = 0.1");
    let recipe = parse(&text, &[]).expect("a valid recipe").with_steps(50);
    assert_eq!((recipe.train.steps, recipe.train.minutes), (Some(50), None));
    assert_eq!((recipe.train.warmup_steps, recipe.train.warmup_share), (Some(5), None));
    assert_eq!(Recipe::parse(&recipe.to_toml(), "resolved", &[]).expect("a resolved recipe"), recipe);
    assert_eq!(recipe.with_steps(50), recipe);
}

/// `key` and `section.key` of every value in the table.
fn keys(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => keys(&path, inner, found),
            _ => found.push(path),
        }
    }
}

fn parse_section<T: serde::de::DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).expect("a section")
}

#[test]
fn every_key_stands_in_the_documentation() {
    let overrides = ["train.micro_batch_tokens=64", "data.split_with=['x']", "data.document_fields=['x']"];
    let overrides = [&overrides[..], &["data.decontaminate=['x']"]].concat();
    let recipe = parse(MINIMAL, &overrides).expect("a recipe").with_steps(5);
    let mut found = Vec::new();
    keys("", &toml::Table::try_from(&recipe).expect("a table"), &mut found);
    let rare = [
        "model.config",
        "model.from",
        "model.size",
        "model.overrides",
        "tokenizer.path",
        "train.minutes",
        "train.warmup_share",
    ];
    found.extend(rare.map(String::from));
    keys("lora", &toml::Table::try_from(LoraSection::default()).expect("a table"), &mut found);
    let mut section = |name: &str, table: toml::Table| keys(name, &table, &mut found);
    section("dpo", toml::Table::try_from(DpoSection::default()).expect("a table"));
    section("reward", toml::Table::try_from(RewardTrainingSection::default()).expect("a table"));
    section("rollouts", toml::Table::try_from(RolloutSection::default()).expect("a table"));
    section("ppo", toml::Table::try_from(PpoSection::default()).expect("a table"));
    section("grpo", toml::Table::try_from(GrpoSection::default()).expect("a table"));
    let distill = parse_section("teacher = 't'");
    section("distill", toml::Table::try_from::<DistillSection>(distill).expect("a table"));
    found.push("qat.formats".into());
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/recipe.md");
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(found.len() > 30, "{found:?}");
    let missing: Vec<&String> = found.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "not in docs/formats/recipe.md: {missing:?}");
}

#[test]
fn the_recipes_of_the_repository_are_valid_and_share_their_splits() {
    for folder in ["nano", "paper/100m", "paper/250m", "paper/500m"] {
        share_their_splits(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes").join(folder));
    }
}

fn share_their_splits(folder: &Path) {
    let load = |name: &str| Recipe::load(&folder.join(name), &[]).expect("a valid recipe");
    let (pretrain, sft) = (load("pretrain.toml"), load("sft.toml"));
    assert_eq!((pretrain.train.stage, sft.train.stage), (Stage::Pretrain, Stage::Sft));
    assert_eq!(sft.model.from, Some(pretrain.output.dir.join(crate::MODEL_FOLDER)));
    let files = |recipe: &Recipe| {
        let sources = recipe.data.sources.iter().map(|source| source.path.clone());
        sources.chain(recipe.data.split_with.iter().cloned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(files(&pretrain), files(&sft));
    let split =
        |recipe: &Recipe| (recipe.data.split_seed, recipe.data.validation_share, recipe.data.test_share);
    assert_eq!(split(&pretrain), split(&sft));
}
