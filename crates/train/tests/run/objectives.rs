//! Stages after fine-tuning: what they learn, what they refuse, and that a kill changes nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use shakti_checkpoint::{ExportTokenizer, GgufExport, ModelFile, Overwrite};
use shakti_engine::{Network, ScoredWindow};
use shakti_kernels::blocks::{DType, dequantize_row};
use shakti_model::{ParamSpec, TensorData, TensorSource};
use shakti_quant::{Options, QuantizedModel, plan};
use shakti_tokenizer::Tokenizer;
use shakti_train::{MODEL_FOLDER, Recipe, Start, TrainError};

use crate::common::{
    Heard, RESUME, bytes_of, corpus, cpu, curve, measures, recipe, run, run_on, sft_text, stage_text,
};

/// A folder with the corpus, and a model that has seen it.
fn begun() -> (tempfile::TempDir, PathBuf) {
    let data = corpus();
    let out = data.path().join("pretrained");
    run(recipe(data.path(), &out, &["train.steps=40"]), Start::New).expect("a pretrained model");
    let tuned = data.path().join("tuned");
    let text = sft_text(data.path(), &out.join(MODEL_FOLDER), &tuned);
    run(Recipe::parse(&text, "sft", &["train.steps=20".into()]).expect("a recipe"), Start::New).expect("sft");
    (data, tuned.join(MODEL_FOLDER))
}

fn stage(data: &Path, from: &Path, out: &str, stage: &str, sections: &str, sets: &[&str]) -> Recipe {
    let text = stage_text(data, from, &data.join(out), stage, sections);
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    Recipe::parse(&text, "recipe.toml", &sets).expect("a recipe")
}

#[test]
fn every_objective_goes_on_after_a_kill_with_the_same_bits() {
    let (data, from) = begun();
    let lora = "[lora]\nrank = 4\nalpha = 8.0\n";
    let same = "[rollouts]\nprompts = 3\ngroup = 4\nmax_new_tokens = 12\nvalidation_prompts = 4\nbatch_size = 5\n\
                [[rewards]]\nkind = 'length'\nmin = 2\nmax = 4\nslack = 8\n";
    let ppo = format!("{same}[ppo]\nepochs = 2\nminibatches = 2\nkl_target = 0.02\nkl_horizon = 50.0\n");
    let grpo = format!("{same}[grpo]\nepochs = 2\n");
    let teacher = format!("[distill]\nteacher = '{}'\nk = 8\n", from.display());
    let own = format!("{teacher}on_policy = true\ndivergence = 'reverse'\n{same}");
    let grid = "[qat]\nformats = ['q4_0', 'q8_0']\n";
    let cases = [
        ("sigmoid", "dpo", "[dpo]\nloss = 'sigmoid'\n", ""),
        ("ipo", "dpo", "[dpo]\nloss = 'ipo'\n", ""),
        ("orpo", "dpo", "[dpo]\nloss = 'orpo'\n", ""),
        ("kto", "dpo", "[dpo]\nloss = 'kto'\n", ""),
        ("simpo", "dpo", "[dpo]\nloss = 'simpo'\nbeta = 2.0\n", ""),
        ("adapter", "dpo", "[dpo]\nbeta = 0.5\n", lora),
        ("reward", "reward", "", ""),
        ("ppo", "ppo", ppo.as_str(), ""),
        ("grpo", "grpo", grpo.as_str(), ""),
        ("grpo-adapter", "grpo", grpo.as_str(), lora),
        ("distill", "distill", teacher.as_str(), ""),
        ("distill-own", "distill", own.as_str(), ""),
        ("on-grid", "dpo", grid, ""),
        ("adapter-on-grid", "dpo", grid, lora),
    ];
    for (name, kind, section, more) in cases {
        let sections = format!("{section}{more}");
        let distils = kind == "distill" && !section.contains("on_policy");
        let sources = format!(
            "data.sources=[{{path='{}/{}'}}]",
            data.path().display(),
            if distils { "chat.jsonl" } else { "pairs.jsonl" }
        );
        let of = |out: &str| stage(data.path(), &from, out, kind, &sections, &["train.steps=15", &sources]);
        let whole = data.path().join(name);
        run(of(name), Start::New).unwrap_or_else(|error| panic!("{name}: {error}"));
        let cut = format!("{name}-cut");
        for (start, after) in [(Start::New, 3), (RESUME, 8)] {
            let mut heard = Heard { kill_after: Some(after), ..Heard::default() };
            let cpu = cpu(1);
            let killed = catch_unwind(AssertUnwindSafe(|| run_on(&cpu, of(&cut), start, &mut heard)));
            assert!(killed.is_err(), "{name}: not killed");
        }
        run(of(&cut), RESUME).unwrap_or_else(|error| panic!("{name}: {error}"));
        let out = data.path().join(&cut);
        assert_eq!((curve(&out), measures(&out)), (curve(&whole), measures(&whole)), "{name}");
        let result = if more.is_empty() { MODEL_FOLDER } else { shakti_train::ADAPTER_FOLDER };
        assert!(bytes_of(&out.join(result)) == bytes_of(&whole.join(result)), "{name}: weights differ");
        let lines = shakti_train::Log::read(&whole).expect("a log");
        let last = &lines.last().expect("a line").measures;
        if kind == "dpo" || kind == "reward" {
            assert!(last["eval/rewards/margins"] > 0.0, "{name}: {last:?}");
        }
        let gap =
            lines.iter().filter_map(|line| line.measures.get("engine_gap/p999")).copied().fold(0.0, f64::max);
        assert!(gap < 1e-4, "{name}: engine and trainer differ by {gap}");
    }
}

#[test]
fn the_first_step_of_dpo_is_at_the_reference() {
    let (data, from) = begun();
    let recipe = stage(data.path(), &from, "dpo", "dpo", "", &["train.steps=1", "train.warmup_steps=1"]);
    let mut heard = Heard::default();
    run_on(&cpu(2), recipe, Start::New, &mut heard).expect("a run");
    let first = &heard.lines[0];
    assert!((first.loss - std::f64::consts::LN_2).abs() < 1e-6, "log 2, not {}", first.loss);
    assert_eq!((first.measures["rewards/margins"], first.measures["rewards/accuracies"]), (0.0, 0.5));
    assert_eq!(heard.left_out, Some((142, 1)), "the pair of equals; the test split is not read");
}

#[test]
fn a_reward_model_is_a_model_of_its_own_kind() {
    let (data, from) = begun();
    let recipe = stage(data.path(), &from, "scores", "reward", "", &["train.steps=2"]);
    let folder = run(recipe, Start::New).expect("a run").model.expect("a model");
    let config = std::fs::read_to_string(folder.join("config.json")).expect("config.json");
    assert!(config.contains("ForSequenceClassification") && config.contains("id2label"), "{config}");
    let again = stage(data.path(), &folder, "again", "dpo", "", &[]);
    let error = run(again, Start::New).expect_err("a reward model writes no answers").to_string();
    assert!(error.contains("reward model"), "{error}");
}

#[test]
fn what_cannot_be_learnt_from_is_refused_by_name() {
    let (data, from) = begun();
    let path = data.path().join("pairs.jsonl");
    let refused = |recipe: Recipe| run(recipe, Start::New).expect_err("refused").to_string();
    let text = stage_text(data.path(), &from, &data.path().join("x"), "dpo", "");
    let parse =
        |set: &str| Recipe::parse(&text, "recipe.toml", &[set.into()]).expect_err("refused").to_string();
    assert!(parse("dpo.beta=0").contains("dpo.beta"));
    assert!(parse("dpo.loss=sigmoyd").contains("sigmoyd"));
    assert!(parse("train.micro_batch_tokens=64").contains("both answers"));
    let of = |out: &str| stage(data.path(), &from, out, "dpo", "", &[]);
    std::fs::write(&path, "{\"prompt\": \"a?\", \"chosen\": \"b\", \"rejected\": \"b\"}\n".repeat(3))
        .expect("pairs");
    let error = refused(of("equal"));
    assert!(error.contains("pairs.jsonl"), "{error}");
    std::fs::write(
        &path,
        "{\"prompt\": \"a?\", \"completion\": \"b\"}\n{\"prompt\": \"c?\", \"completion\": \"d\"}\n",
    )
    .expect("chats");
    let error = refused(of("chats"));
    assert!(error.contains("pairs.jsonl") && error.contains("preference pair"), "{error}");
    assert!(matches!(run(of("again"), Start::New), Err(TrainError::DataFile(_))));
}

#[test]
fn what_is_trained_on_a_grid_is_what_the_file_holds() {
    let (data, from) = begun();
    for format in ["q4_0", "q8_0", "q4_k_m"] {
        let sets =
            ["train.steps=12", &format!("data.sources=[{{path='{}/chat.jsonl'}}]", data.path().display())];
        let section = format!("[qat]\nformats = ['{format}']\n");
        let recipe = stage(data.path(), &from, format, "sft", &section, &sets);
        let mut heard = Heard::default();
        let folder = run_on(&cpu(2), recipe, Start::New, &mut heard).expect("a run").model.expect("a model");
        let (model, cpu) = (ModelFile::open(&folder).expect("the model"), cpu(1));
        let plan = plan(model.config(), format.parse().expect("a type"), None);
        let blocks = QuantizedModel::new(&cpu, &model, &plan, Options::default(), |_| {}).expect("blocks");
        let tokenizer = Tokenizer::open(&folder).expect("the tokenizer");
        let dtype =
            |spec: &ParamSpec| plan.iter().find(|tensor| tensor.spec == *spec).expect("planned").dtype;
        let export = GgufExport {
            config: model.config(),
            name: "model",
            file_type: 2,
            dtype: &dtype,
            tokenizer: ExportTokenizer::Tokenizer(&tokenizer),
            extra: &[],
        };
        let path = data.path().join(format!("{format}.gguf"));
        export.write(&path, Overwrite::Refuse, &blocks).expect("a file");
        let file = ModelFile::open(&path).expect("the file");
        let ids: Vec<u32> = (0..60).map(|i| i * 7 % 250).collect();
        let windows = [ScoredWindow { ids: &ids, scored_from: 1 }];
        let nats = |source: &dyn TensorSource| {
            let network = Network::load(model.config().clone(), source, cpu.clone()).expect("a network");
            network.losses(&windows).expect("a loss")[0].nats
        };
        let (in_memory, in_file) = (nats(&blocks), nats(&file));
        assert_eq!(in_memory.to_bits(), in_file.to_bits(), "{format}");
        // The trainer multiplies by the values of the blocks; serving rounds activations to 8 bits besides.
        let values = nats(&Dequantized(&blocks));
        assert!((values / in_file - 1.0).abs() < 0.02, "{format}: {values} by values, {in_file} served");
        assert!(nats(&model) != values, "{format} rounds something");
        let last = heard.lines.last().expect("a line");
        assert!(last.validation_loss.is_some_and(|loss| loss.is_finite()), "{last:?}");
    }
}

/// Blocks as the f32 values they stand for.
struct Dequantized<'a>(&'a QuantizedModel);

impl TensorSource for Dequantized<'_> {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let data = self.0.tensor(spec)?;
        let cols = spec.shape[spec.shape.len() - 1];
        let mut values = vec![0.0f32; spec.num_elements()];
        let row_bytes = data.bytes.len() / (spec.num_elements() / cols);
        for (row, bytes) in values.chunks_exact_mut(cols).zip(data.bytes.chunks_exact(row_bytes)) {
            dequantize_row(data.dtype, bytes, row)?;
        }
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(TensorData { dtype: DType::F32, bytes: std::borrow::Cow::Owned(bytes) })
    }
}
