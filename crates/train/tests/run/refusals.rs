//! What is refused, before anything is written; and runs that end by themselves.

use std::fs;
use std::path::Path;

use shakti_train::{MODEL_FOLDER, Recipe, Start, TrainError};

use crate::common::{Heard, RESUME, bytes_of, corpus, cpu, curve, recipe, recipe_text, run, run_on};

fn refused(recipe: Recipe, start: Start) -> String {
    run(recipe, start).expect_err("a refusal").to_string()
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let data = corpus();
    let out = data.path().join("out");
    let write = |name: &str, text: &str| fs::write(data.path().join(name), text).expect("a file");
    write("torn.jsonl", "{\"text\": \"good\"}\n{\"text\": \"torn");
    write("bad_config.json", "{\"model_type\": \"llama\", \"hidden_size\": 8, \"quantum\": 1}");
    let path = |name: &str| data.path().join(name).display().to_string();
    let cases = [
        (format!("data.sources=[{{ path = '{}' }}]", path("torn.jsonl")), "torn.jsonl:2"),
        (format!("data.sources=[{{ path = '{}' }}]", path("absent.jsonl")), "absent.jsonl"),
        (format!("model.config='{}'", path("bad_config.json")), "key `"),
        (format!("model.config='{}'", path("absent.json")), "absent.json: cannot read"),
        ("model.overrides.head_dim=7".into(), "head_dim"),
        ("model.overrides.hidden_act='gelu'".into(), "hidden_act"),
        ("model.overrides.unheard_of=1".into(), "unknown key `unheard_of`"),
        ("train.sequence_length=129".into(), "train.micro_batch_tokens"),
        ("tokenizer.train.vocab_size=10".into(), "vocab_size"),
    ];
    for (change, expected) in cases {
        let overrides = [change.clone()];
        let message = match Recipe::parse(&recipe_text(data.path(), &out), "recipe.toml", &overrides) {
            Err(error) => error.to_string(),
            Ok(recipe) => refused(recipe, Start::New),
        };
        assert!(message.contains(expected), "{change}: {message}");
        assert!(!out.exists(), "{change} left something behind");
    }
    let message = refused(
        recipe(data.path(), &out, &["train.sequence_length=256", "train.micro_batch_tokens=256"]),
        Start::New,
    );
    assert!(message.contains("max_position_embeddings of the model is 128"), "{message}");
    let message = refused(recipe(data.path(), &out, &["train.stage=sft"]), Start::New);
    assert!(message.contains("text.jsonl:") && message.contains("conversation"), "{message}");
    assert!(!out.exists());
}

#[test]
fn an_existing_run_is_refused_replaced_or_resumed_as_asked() {
    let data = corpus();
    let out = data.path().join("out");
    run(recipe(data.path(), &out, &[]), Start::New).expect("a run");
    let (log, model) = (curve(&out), bytes_of(&out.join(MODEL_FOLDER)));
    let error = run(recipe(data.path(), &out, &[]), Start::New).expect_err("a run is there");
    assert!(matches!(error, TrainError::OutputExists { .. }), "{error}");
    assert_eq!(curve(&out), log);
    let message = refused(recipe(data.path(), &out, &["train.seed=8", "train.steps=12"]), RESUME);
    assert!(
        message.contains("`train.seed` is 8, was 7") && message.contains("`train.steps` is 12, was 9"),
        "{message}"
    );
    fs::write(out.join("notes.txt"), "mine").expect("a file of the user");
    run(recipe(data.path(), &out, &["train.seed=8"]), Start::Replace).expect("another run");
    assert_ne!(curve(&out)[0].1, log[0].1);
    assert!(bytes_of(&out.join(MODEL_FOLDER)) != model);
    assert!(out.join("notes.txt").exists(), "a file of the user is gone");
    // A folder that is no run is never deleted from.
    let other = data.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("thesis.txt"), "mine").expect("a file of the user");
    let message = refused(recipe(data.path(), &other, &[]), Start::Replace);
    assert!(message.contains("not a run"), "{message}");
}

#[test]
fn an_edited_recipe_in_the_run_folder_does_not_resume() {
    let data = corpus();
    let out = data.path().join("out");
    run(recipe(data.path(), &out, &[]), Start::New).expect("a run");
    let file = out.join("recipe.toml");
    let text = fs::read_to_string(&file).expect("the resolved recipe");
    fs::write(&file, text.replace("clip_grad_norm = 1.0", "clip_grad_norm = 2.0")).expect("an edit");
    let message = refused(recipe(data.path(), &out, &["train.clip_grad_norm=2.0"]), RESUME);
    assert!(
        message.contains("checkpoint-9: cannot resume: it was made with another recipe.toml"),
        "{message}"
    );
}

#[test]
fn a_moved_run_folder_resumes() {
    let data = corpus();
    let (first, second) = (data.path().join("first"), data.path().join("second"));
    run(recipe(data.path(), &first, &[]), Start::New).expect("a run");
    fs::rename(&first, &second).expect("a move");
    let mut heard = Heard::default();
    run_on(&cpu(1), recipe(data.path(), &second, &[]), RESUME, &mut heard).expect("nothing to do");
    assert_eq!(heard.resumed, Some(9));
}

#[test]
fn changed_data_does_not_resume() {
    let data = corpus();
    let out = data.path().join("out");
    run(recipe(data.path(), &out, &[]), Start::New).expect("a run");
    let file = data.path().join("text.jsonl");
    let text = fs::read_to_string(&file).expect("the text");
    fs::write(&file, text.replace("oxygen", "plasma")).expect("other text");
    let message = refused(recipe(data.path(), &out, &[]), RESUME);
    assert!(message.contains("the saved position belongs to other data"), "{message}");
}

#[test]
fn a_run_that_diverges_stops_with_step_and_reason_and_keeps_its_checkpoint() {
    let data = corpus();
    let out = data.path().join("out");
    let wild = ["train.peak_learning_rate=10.0", "train.warmup_steps=9", "train.adamw.weight_decay=10.0"];
    let wild =
        [&wild[..], &["train.steps=400", "train.max_grad_norm_ratio=1.5", "train.save_every=1"]].concat();
    let mut heard = Heard::default();
    let error =
        run_on(&cpu(2), recipe(data.path(), &out, &wild), Start::New, &mut heard).expect_err("a divergence");
    let message = error.to_string();
    assert!(message.starts_with("step "), "{message}");
    let last = *heard.saved.last().expect("a checkpoint");
    assert!(message.starts_with(&format!("step {}:", last + 1)), "{message}, saved {last}");
    assert!(out.join(format!("checkpoint-{last}")).exists() && !out.join(MODEL_FOLDER).exists());
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let data = corpus();
    let out = data.path().join("out");
    fs::create_dir(&out).expect("a folder");
    let lock = fs::File::create(out.join(".lock")).expect("the lock file");
    lock.try_lock().expect("the lock");
    let message = refused(recipe(data.path(), &out, &[]), RESUME);
    assert!(message.contains("another process trains in this folder"), "{message}");
    assert!(!Path::new(&out).join("recipe.toml").exists());
}
