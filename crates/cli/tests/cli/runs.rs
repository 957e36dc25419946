//! What a recipe can ask of a run besides steps: optimizers that resume.

use crate::common::{arg, repository, shakti};
use crate::train::{data, result};

#[test]
fn every_optimizer_goes_on_from_a_checkpoint_with_the_same_bits() {
    let mut results = Vec::new();
    for optimizer in ["adamw", "adamw8", "muon"] {
        let data = data();
        let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
        let kind = format!("train.optimizer={optimizer}");
        let run = |resume: &[&str]| {
            let changes =
                ["--set", &kind, "--set", "train.save_every=5", "--set", "train.keep_checkpoints=3"];
            shakti(&[&["train", "pretrain", arg(&recipe)], &changes[..], resume].concat())
        };
        run(&[]).ok();
        let whole = result(&out);
        for step in [10, 12] {
            std::fs::remove_dir_all(out.join(format!("checkpoint-{step}"))).expect("a checkpoint");
        }
        std::fs::remove_dir_all(out.join("model")).expect("the model");
        let message = run(&["--resume"]);
        assert!(message.stderr.contains("resumed after step 5"), "{}", message.stderr);
        message.ok();
        assert!(result(&out) == whole, "{optimizer}: other weights or another loss curve");
        results.push(whole.1);
    }
    assert!(results[0] != results[1] && results[1] != results[2], "the optimizers differ");
}

#[test]
fn a_plan_says_what_a_run_takes_and_the_report_compares() {
    let data = data();
    let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
    let plan = shakti(&["train", "plan", arg(&recipe), "--json"]).json();
    assert!(!out.exists(), "nothing is begun");
    let left: Vec<String> = std::fs::read_dir(data.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("out"))
        .collect();
    assert_eq!(left, ["out.plan.json"]);
    assert_eq!((plan["steps"].as_u64(), plan["batch_tokens"].as_u64()), (Some(12), Some(256)));
    assert_eq!((plan["validations"].as_u64(), plan["checkpoints"].as_u64()), (Some(2), Some(6)));
    let parameters = plan["parameters"].as_u64().expect("a number");
    assert_eq!(plan["optimizer_bytes"].as_u64(), Some(8 * parameters));
    assert!(plan["peak_memory_bytes"].as_u64() > Some(1 << 20));
    let rate = plan["tokens_per_s"].as_f64().expect("a number");
    let seconds = plan["seconds_per_step"].as_f64().expect("a number");
    let planned = rate * seconds;
    let text = shakti(&["train", "plan", arg(&recipe), "--set", "train.optimizer=adamw8"]).ok();
    assert!(text.contains("weights, gradients, optimizer; from the shapes"), "{text}");
    shakti(&["train", "pretrain", arg(&recipe), "--nice", "1", "--max-cpu", "90"]).ok();
    // No batch is full: what no longer fits into one waits for the next.
    let log = std::fs::read_to_string(out.join("log.jsonl")).expect("the log");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    let made = last["tokens"].as_f64().expect("a number") / 12.0;
    assert!((planned / made - 1.0).abs() < 0.1 && made < 250.0, "{planned} tokens planned, {made} made");
    let page = std::fs::read_to_string(out.join("report.html")).expect("the report");
    for part in ["<svg", "validation", "tokens/s (median step)", "was / planned", "[train]"] {
        assert!(page.contains(part), "`{part}` is not in the report");
    }
    assert!(!page.contains("was not run"), "the plan was found");
}

#[test]
fn pace_and_control_that_make_no_sense_are_refused() {
    let data = data();
    let recipe = data.path().join("recipe.toml");
    for (flags, expected) in [
        (&["--max-cpu", "0"][..], "--max-cpu"),
        (&["--nice", "20"], "--nice"),
        (
            &["--set", "control.patience=2", "--set", "train.validate_every=0"],
            "`control.patience`: needs validations",
        ),
        (&["--set", "control.final_model=best"], "`control.keep_best`: 0, expected at least 1"),
        (&["--set", "control.final_model=worst"], "unknown variant `worst`"),
        (&["--set", "control.min_improvement=-1.0"], "`control.min_improvement`: -1, expected 0 or more"),
        (&["--set", "train.optimizer=sgd"], "unknown variant `sgd`"),
        (&["--set", "train.muon.iterations=0"], "`train.muon.iterations`: 0, expected 1 to 20"),
    ] {
        let message = shakti(&[&["train", "pretrain", arg(&recipe)], flags].concat()).refused();
        assert!(message.contains(expected), "{message}");
    }
    assert!(!data.path().join("out").exists());
}

#[test]
fn a_size_decides_what_the_recipe_does_not_say() {
    let data = data();
    let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
    let text = std::fs::read_to_string(&recipe).expect("the recipe");
    let kept = |line: &&str| {
        !["batch_tokens", "micro_batch", "steps", "peak_"].iter().any(|key| line.starts_with(key))
    };
    let text: Vec<&str> = text.lines().filter(kept).collect();
    std::fs::write(&recipe, text.join("\n").replace("split_with", "test_share = 0.05\nsplit_with"))
        .expect("a file");
    let change = "model.size=150k";
    let plan = shakti(&["train", "plan", arg(&recipe), "--set", change, "--json"]).json();
    let parameters = plan["parameters"].as_f64().expect("a number");
    assert!((parameters / 150e3 - 1.0).abs() < 0.25, "{parameters}");
    let (steps, batch) =
        (plan["steps"].as_f64().expect("steps"), plan["batch_tokens"].as_f64().expect("tokens"));
    assert!((steps * batch / (20.0 * parameters) - 1.0).abs() < 0.1, "{steps} x {batch}");
    let run = ["train", "pretrain", arg(&recipe), "--set", change, "--set", "train.steps=2"];
    shakti(&run).ok();
    let resolved = std::fs::read_to_string(out.join("recipe.toml")).expect("the resolved recipe");
    for key in ["size = \"150k\"", "hidden_size = ", "num_hidden_layers = ", "peak_learning_rate = 0.004"] {
        assert!(resolved.contains(key), "`{key}` is not in {resolved}");
    }
    shakti(&[&run[..], &["--resume"]].concat()).ok();
    let message =
        shakti(&["train", "plan", arg(&out.join("recipe.toml")), "--set", "model.size=1m"]).refused();
    assert!(message.contains("`model.size`: 1000000 parameters, but hidden_size"), "{message}");
    for (size, expected) in [("huge", "expected a number of parameters"), ("100b", "from 100k to 3b")] {
        let change = format!("model.size={size}");
        let message = shakti(&["train", "plan", arg(&recipe), "--set", &change]).refused();
        assert!(message.contains("`model.size`") && message.contains(expected), "{message}");
    }
}

#[test]
fn a_corrupt_shard_and_a_chat_without_answers_are_refused_before_anything_is_written() {
    let data = data();
    let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
    let mut shard = std::fs::read(repository("data/quickstart/medical_qa.jsonl.zst")).expect("a shard");
    let middle = shard.len() / 2;
    shard[middle] ^= 0x55;
    let corrupt = data.path().join("corrupt.jsonl.zst");
    std::fs::write(&corrupt, shard).expect("a file");
    let empty = data.path().join("empty.jsonl");
    let records: Vec<String> = (0..40)
        .map(|number| {
            serde_json::json!({ "messages": [{ "role": "user", "content": format!("Why {number}?") }] })
                .to_string()
        })
        .collect();
    std::fs::write(&empty, records.join("\n") + "\n").expect("a file");
    for (stage, file, expected) in [
        ("pretrain", &corrupt, "corrupt.jsonl.zst"),
        ("sft", &corrupt, "corrupt.jsonl.zst"),
        ("sft", &empty, "empty.jsonl:1: tokenizer: chat template: the loss mask is empty"),
    ] {
        let source = format!("data.sources=[{{ path = '{}' }}]", file.display());
        let stage_key = format!("train.stage={stage}");
        let run = shakti(&["train", stage, arg(&recipe), "--set", &source, "--set", &stage_key]);
        let message = run.refused();
        let error = message.lines().find(|line| line.starts_with("error: ")).expect("an error");
        assert!(error.contains(expected), "{message}");
        assert!(!out.exists(), "{stage} of {expected} left something behind");
    }
}

/// Overwrites one value of a tensor in a checkpoint folder.
fn poison(folder: &std::path::Path, tensor: &str) {
    let file = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&file).expect("weights");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    let names: serde_json::Value = serde_json::from_slice(&bytes[8..header]).expect("a header");
    let at = header + names[tensor]["data_offsets"][0].as_u64().expect("an offset") as usize;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(file, bytes).expect("weights");
}

#[test]
fn a_nan_in_the_base_ends_the_run_by_name_and_no_model_is_written() {
    let data = data();
    let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
    shakti(&["train", "pretrain", arg(&recipe), "--set", "train.steps=2"]).ok();
    let (base, tuned) = (out.join("model"), data.path().join("tuned"));
    let tensor = "model.layers.1.mlp.down_proj.weight";
    poison(&base, tensor);
    let text = std::fs::read_to_string(&recipe).expect("the recipe");
    let random = format!("config = '{}/config.json'", data.path().display());
    let text = text.replace(&random, &format!("from = '{}'", base.display()));
    let text = text.replace("[tokenizer.train]\nvocab_size = 300\n", "");
    std::fs::write(&recipe, text).expect("the recipe");
    let place = format!("output.dir='{}'", tuned.display());
    let run = shakti(&["train", "pretrain", arg(&recipe), "--set", &place]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
    let expected = format!("step 1: the loss is NaN, and `{tensor}` holds a value that is not finite");
    assert!(run.stderr.contains(&expected), "{}", run.stderr);
    assert!(!tuned.join("model").exists());
    assert!(shakti_train::Checkpoints::new(&tuned, 2).steps().expect("a list").is_empty());
}
