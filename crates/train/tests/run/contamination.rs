//! Every run stores what its training records share with test sets and held-out records, and leaves the former out.

use std::fs;
use std::path::Path;

use serde_json::Value;
use shakti_train::{CONTAMINATION_FILE, Start};

use crate::common::{RESUME, corpus, curve, recipe, run};

fn report(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join(CONTAMINATION_FILE)).expect("a report")).expect("JSON")
}

/// Adds 40 texts of their own words to the training file and makes a test set of them.
fn add_test_items(data: &Path) -> String {
    let item = |n: usize| (0..20).map(|word| format!("u{n}w{word}")).collect::<Vec<_>>().join(" ");
    let mut texts = fs::read_to_string(data.join("text.jsonl")).expect("texts");
    let items: String = (0..40).map(|n| format!("{}\n", serde_json::json!({ "text": item(n) }))).collect();
    texts += &items;
    fs::write(data.join("text.jsonl"), texts).expect("texts");
    fs::write(data.join("items.jsonl"), items).expect("items");
    format!("data.decontaminate=['{}']", data.join("items.jsonl").display())
}

#[test]
fn named_test_sets_are_left_out_of_training_and_the_report_is_stored() {
    let data = corpus();
    let key = add_test_items(data.path());
    let (with, without) = (data.path().join("with"), data.path().join("without"));
    let asked = recipe(data.path(), &with, &[&key, "train.steps=4"]);
    run(asked.clone(), Start::New).expect("a run");
    let found = report(&with);
    let dropped = found["test_sets"]["contaminated"].as_array().expect("records");
    assert!((25..=40).contains(&dropped.len()), "the training share of 40: {}", dropped.len());
    assert!(dropped.iter().all(|record| record["line"].as_u64().is_some_and(|line| line > 150)));
    let set = &found["test_sets"]["test_sets"][0];
    assert_eq!(set["items"], 40);
    assert_eq!((&set["hit"], &set["half"]), (&dropped.len().into(), &dropped.len().into()));
    assert!(!found.to_string().contains("u3w"), "no text");

    run(recipe(data.path(), &without, &["train.steps=4"]), Start::New).expect("a run");
    let found = report(&without);
    assert_eq!(found["test_sets"], Value::Null);
    assert_eq!(found["held_out"]["pairs"].as_array().map(Vec::len), Some(3));
    assert_ne!(curve(&with), curve(&without), "other records were trained on");

    // A resumed run reads the same data and stores the same report.
    let before = stored(&with);
    run(asked, RESUME).expect("nothing to do");
    assert_eq!(stored(&with), before);
}

fn stored(out: &Path) -> Vec<u8> {
    fs::read(out.join(CONTAMINATION_FILE)).expect("a report")
}

#[test]
fn a_test_set_that_cannot_be_read_ends_the_run_before_it_begins() {
    let data = corpus();
    let out = data.path().join("out");
    for (name, expected) in [("absent.csv", "absent.csv"), ("table.xlsx", "unknown kind of test set")] {
        fs::write(data.path().join("table.xlsx"), "PK").expect("a file");
        let key = format!("data.decontaminate=['{}']", data.path().join(name).display());
        let message = run(recipe(data.path(), &out, &[&key]), Start::New).expect_err("a refusal").to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!out.exists());
    }
}
