//! `shakti quickstart`: the whole chain in seconds, with a model that has learnt nothing yet.

use std::path::{Path, PathBuf};

use crate::common::{Run, arg, model, shakti};
use crate::privacy::offline;

#[test]
fn the_chain_runs_offline_and_writes_its_report_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("quick");
    let args = ["quickstart", "--out", arg(&out), "--minutes", "0.05"];
    // Without a network interface, where the system allows a namespace without one.
    let run = offline(&args).map_or_else(|| shakti(&args), Run::new);
    let text = run.ok();
    assert_eq!(text.matches("\nQ: ").count(), 3, "{text}");
    assert!(text.contains("shakti chat -m") && text.contains("bigram"), "{text}");
    for name in [
        "report.md",
        "report.html",
        "summary.json",
        "model-q8_0.gguf",
        "model-q5_0.gguf",
        "model-q4_0.gguf",
        "loss.svg",
    ] {
        let metadata = std::fs::metadata(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077, 0, "{name} is the owner's");
    }
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["stages"].as_array().unwrap().len(), 6);
    let said = shakti(&["generate", arg(&out.join("model-q4_0.gguf")), "-p", "Asthma", "-n", "4"]).ok();
    assert!(!said.is_empty());
    let again = shakti(&args).refused();
    assert!(again.contains("exists already") && again.contains("--force"), "{again}");
    assert!(shakti(&["quickstart", "--minutes=-1"]).refused().contains("minutes"));
}

/// A folder of conversations and texts on invented subjects, enough for every split.
pub fn own_data(folder: &Path, chats: usize, texts: usize) -> PathBuf {
    let data = folder.join("letters");
    std::fs::create_dir_all(data.join("more")).unwrap();
    let chat = |n| {
        format!(
            "{{\"messages\": [{{\"role\": \"system\", \"content\": \"Be brief.\"}}, {{\"role\": \"user\", \"content\": \"Where \
             is file {n}?\"}}, {{\"role\": \"assistant\", \"content\": \"File {n} lies in room {}.\"}}]}}\n",
            n % 7
        )
    };
    let text = |n| {
        format!("{{\"text\": \"Note {n}: room {} was cleaned, write to desk{n}@example.org.\"}}\n", n % 5)
    };
    if chats > 0 {
        std::fs::write(data.join("chats.jsonl"), (0..chats).map(chat).collect::<String>()).unwrap();
    }
    std::fs::write(data.join("more/notes.jsonl"), (0..texts).map(text).collect::<String>()).unwrap();
    std::fs::write(data.join("logo.png"), "no text").unwrap();
    data
}

fn own(data: &Path, out: &Path) -> Run {
    let args = ["quickstart", "--data", arg(data), "--out", arg(out), "--minutes", "0.03"];
    offline(&args).map_or_else(|| shakti(&args), Run::new)
}

fn summary(out: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn the_users_own_conversations_and_texts_are_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (own_data(folder.path(), 120, 80), folder.path().join("out"));
    let run = own(&data, &out);
    assert!(run.stderr.contains("logo.png") && run.stderr.contains("80 of 200 records"), "{}", run.stderr);
    let text = run.ok();
    assert!(text.matches("\nQ: Where is file ").count() >= 2 && !text.contains("textbook"), "{text}");
    let summary = summary(&out);
    assert_eq!(summary["stages"].as_array().unwrap().len(), 6);
    assert!(summary["stages"][5]["answers"]["bits_per_byte"]["value"].as_f64().unwrap() > 0.0);
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("chats.jsonl") && report.contains("personal data"), "{report}");
    assert!(!out.join("quickstart-data").exists());
}

#[test]
fn texts_alone_are_learnt_without_questions() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (own_data(folder.path(), 0, 120), folder.path().join("out"));
    let text = own(&data, &out).ok();
    assert!(!text.contains("\nQ: ") && text.contains("shakti generate"), "{text}");
    let summary = summary(&out);
    assert_eq!(summary["stages"].as_array().unwrap().len(), 5);
    assert!(summary["baselines"]["nearest"].is_null() && summary["stages"][4]["answers"].is_null());
}

#[test]
fn folders_without_enough_data_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, out) = (folder.path().join("empty"), folder.path().join("out"));
    std::fs::create_dir(&empty).unwrap();
    let refused = own(&empty, &out).refused();
    assert!(refused.contains("no training file") && refused.contains(".jsonl"), "{refused}");
    assert!(!out.exists());
    assert!(own(&folder.path().join("absent"), &out).refused().contains("absent"));
    let few = own(&own_data(folder.path(), 0, 2), &out).refused();
    assert!(few.contains("2 different documents"), "{few}");
}

/// `--force` replaces what a quickstart wrote, never what it reads.
#[test]
fn data_inside_an_earlier_output_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let data = own_data(folder.path(), 0, 40);
    let (out, sft) = (folder.path().join("out"), folder.path().join("out/sft"));
    std::fs::create_dir_all(&sft).unwrap();
    std::fs::rename(data, sft.join("letters")).unwrap();
    let args = ["quickstart", "--data", arg(&sft), "--out", arg(&out), "--force"];
    let refused = shakti(&args).refused();
    assert!(refused.contains("would replace") && sft.join("letters/more/notes.jsonl").exists(), "{refused}");
}

#[test]
fn a_base_is_tuned_and_compared_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (own_data(folder.path(), 120, 30), folder.path().join("out"));
    let base = model();
    let before = std::fs::read(&base).ok();
    let args =
        ["quickstart", "--data", arg(&data), "--base", arg(&base), "--out", arg(&out), "--minutes", "0.05"];
    let run = offline(&args).map_or_else(|| shakti(&args), Run::new);
    assert!(run.stderr.contains("texts are measured on, not learnt"), "{}", run.stderr);
    let text = run.ok();
    assert!(text.contains("the base on answers") && text.contains("\nQ: Where is file "), "{text}");
    let summary = summary(&out);
    let names: Vec<&str> =
        summary["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names[..2], ["base", "base with adapter"]);
    assert!(summary["stages"][0]["against_base"].is_null());
    assert!(summary["stages"][4]["against_base"]["answers"]["value"].as_f64().unwrap() < 0.0, "it learnt");
    for name in ["lora/adapter/adapter_model.safetensors", "model-q4_0.gguf", "report.html"] {
        assert!(out.join(name).exists(), "{name}");
    }
    assert!(std::fs::read(&base).ok() == before, "the base is as it was");
}

#[test]
fn all_weights_of_a_base_are_tuned_and_compared_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (own_data(folder.path(), 120, 30), folder.path().join("out"));
    let base = model();
    let args = ["quickstart", "--data", arg(&data), "--base", arg(&base), "--full", "--out", arg(&out)];
    let args = [&args[..], &["--minutes", "0.05"]].concat();
    let run = offline(&args).map_or_else(|| shakti(&args), Run::new);
    assert!(run.stderr.contains("fine-tuning all weights on the answers"), "{}", run.stderr);
    run.ok();
    let stages = &summary(&out)["stages"];
    assert_eq!(
        (stages[0]["name"].as_str(), stages[1]["name"].as_str()),
        (Some("base"), Some("fine-tuned (f32)"))
    );
    let gained = |stage: usize| stages[stage]["against_base"]["answers"]["value"].as_f64().unwrap();
    assert!(gained(1) < 0.0 && gained(2) < 0.0, "the weights and their int8 learnt: {stages}");
    assert!(out.join("full/model/tokenizer.json").exists() && !out.join("full/adapter").exists());
    assert!(shakti(&args).refused().contains("full: exists already"));
    shakti(&[&args[..], &["--force"]].concat()).ok();
}

#[test]
fn all_weights_of_a_gguf_file_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (own_data(folder.path(), 120, 30), folder.path().join("out"));
    let base = folder.path().join("base.gguf");
    shakti(&["quantize", arg(&model()), arg(&base), "--type", "q8_0"]).ok();
    let args = ["quickstart", "--data", arg(&data), "--full", "--out", arg(&out)];
    let refused = shakti(&[&args[..], &["--base", arg(&base)]].concat()).refused();
    assert!(refused.contains("base.gguf") && refused.contains("tokenizer.json"), "{refused}");
    assert!(refused.contains("without --full"), "{refused}");
    assert!(!out.exists());
    assert!(shakti(&args).refused().contains("--base"));
}

#[test]
fn a_base_that_cannot_be_used_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (own_data(folder.path(), 120, 5), folder.path().join("out"));
    let args = ["quickstart", "--data", arg(&data), "--base", "absent.gguf", "--out", arg(&out)];
    assert!(shakti(&args).refused().contains("absent.gguf"));
    assert!(!out.exists());
}
