//! Time budgets, the chain from pretraining to SFT, and what a run leaves behind.

use std::time::Instant;

use shakti_checkpoint::HfFolder;
use shakti_train::{MODEL_FOLDER, RECIPE_FILE, Recipe, Start};

use crate::common::{Heard, RESUME, bytes_of, corpus, cpu, curve, recipe, run, run_on};

#[test]
fn minutes_fix_the_steps_before_the_first_and_discard_the_timed_ones() {
    let data = corpus();
    let (timed, fixed) = (data.path().join("timed"), data.path().join("fixed"));
    let text = crate::common::recipe_text(data.path(), &timed).replace("steps = 9\n", "minutes = 0.03\n");
    let text = text
        .replace("warmup_steps = 2\n", "warmup_share = 0.25\n")
        .replace("save_every = 2", "save_every = 0");
    let asked = Recipe::parse(&text, "recipe.toml", &[]).expect("a recipe");
    let started = Instant::now();
    let mut heard = Heard::default();
    let outcome = run_on(&cpu(1), asked.clone(), Start::New, &mut heard).expect("a run");
    let (seconds_per_step, steps) = heard.timed.expect("a timing");
    println!("{steps} steps of {seconds_per_step} s, {} s in all", started.elapsed().as_secs_f64());
    assert_eq!((outcome.step, outcome.steps), (steps, steps));
    let resolved = Recipe::load(&timed.join(RECIPE_FILE), &[]).expect("the resolved recipe");
    assert_eq!((resolved.train.steps, resolved.train.minutes), (Some(steps), None));
    assert_eq!(resolved.train.warmup_steps, Some((0.25 * steps as f64).round() as u64));
    // The discarded steps leave no trace: the same number of steps without timing gives the same bits.
    let mut again = resolved;
    again.output.dir.clone_from(&fixed);
    run(again, Start::New).expect("a run of fixed length");
    assert_eq!(curve(&timed), curve(&fixed));
    assert!(bytes_of(&timed.join(MODEL_FOLDER)) == bytes_of(&fixed.join(MODEL_FOLDER)));
    // The recipe with the time budget resumes the run that came of it.
    let outcome = run(asked, RESUME).expect("nothing to do");
    assert_eq!(outcome.steps, steps);
}

#[test]
fn pretraining_then_sft_lowers_both_losses() {
    let data = corpus();
    let (first, second) = (data.path().join("pretrain"), data.path().join("sft"));
    let outcome = run(recipe(data.path(), &first, &["train.steps=60", "train.save_every=0"]), Start::New)
        .expect("a run");
    let lines = curve(&first);
    let loss = |index: usize| f64::from_bits(lines[index].1);
    println!("pretraining loss {} to {}", loss(0), loss(59));
    assert!(loss(59) < 0.7 * loss(0), "{} to {}", loss(0), loss(59));
    let from = outcome.model.expect("a model");
    let text = crate::common::sft_text(data.path(), &from, &second);
    let asked = Recipe::parse(&text, "sft.toml", &["train.steps=30".into()]).expect("a recipe");
    let mut heard = Heard::default();
    run_on(&cpu(2), asked, Start::New, &mut heard).expect("an SFT run");
    let (before, after) = (heard.lines[0].loss, heard.lines[29].loss);
    println!("SFT loss {before} to {after}");
    assert!(after < before);
    let (before, after) = (
        HfFolder::open(&from).expect("a model"),
        HfFolder::open(second.join(MODEL_FOLDER)).expect("a model"),
    );
    assert_eq!(before.config(), after.config());
}

#[test]
fn a_checkpoint_is_a_folder_that_opens_and_holds_no_text() {
    let data = corpus();
    let out = data.path().join("out");
    let outcome = run(recipe(data.path(), &out, &["train.steps=2"]), Start::New).expect("a run");
    assert_eq!(outcome.checkpoint, Some(out.join("checkpoint-2")));
    for folder in [out.join("checkpoint-2"), out.join(MODEL_FOLDER)] {
        shakti_checkpoint::verify_manifest(&folder).expect("checksums that match");
        let opened = HfFolder::open(&folder).expect("a Hugging Face folder");
        assert_eq!(opened.config().num_kv_heads, [2, 1]);
        for name in [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "generation_config.json",
        ] {
            assert!(folder.join(name).exists(), "{name} is missing in {}", folder.display());
        }
    }
    for name in ["log.jsonl", "recipe.toml", "checkpoint-2/training_state.json"] {
        let text = std::fs::read_to_string(out.join(name)).expect("text");
        assert!(!text.contains("heart") && !text.contains("oxygen"), "{name} holds text of the data");
    }
}
