//! Truncated and lying files: exit code 2, the file and the field named, nothing on standard output.

use std::fs;

use crate::common::{arg, fixture, model, repository, shakti};

#[test]
fn a_truncated_gguf_file_is_refused_at_every_length() {
    let whole = fs::read(repository("golden/gguf/spm_q4_0.gguf")).expect("a golden file");
    let file = fixture().join("truncated.gguf");
    let lengths = [0, 3, 4, 8, 24, 100, 1000, whole.len() / 2, whole.len() - 1];
    for len in lengths {
        fs::write(&file, &whole[..len]).expect("a file");
        let message = shakti(&["generate", "-m", arg(&file), "-p", "Asthma"]).refused();
        assert!(message.contains("truncated.gguf"), "{len} bytes: {message}");
    }
}

#[test]
fn a_header_that_lies_about_its_counts_is_refused_without_memory() {
    let mut bytes = fs::read(repository("golden/gguf/spm_q4_0.gguf")).expect("a golden file");
    let file = fixture().join("lying.gguf");
    // Version 3: tensors at byte 8, metadata entries at byte 16.
    for at in [8, 16] {
        let old = bytes[at..at + 8].to_vec();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        fs::write(&file, &bytes).expect("a file");
        let message = shakti(&["model", "info", arg(&file)]).refused();
        assert!(message.contains("lying.gguf"), "{message}");
        bytes[at..at + 8].copy_from_slice(&old);
    }
}

#[test]
fn a_folder_without_a_file_or_with_a_damaged_one_is_refused_by_name() {
    let copy = fixture().join("damaged-model");
    let files = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    let restore = || {
        fs::create_dir_all(&copy).expect("a folder");
        for name in files {
            fs::copy(model().join(name), copy.join(name)).expect("a copy");
        }
    };
    let generate = || shakti(&["generate", arg(&copy), "-p", "Asthma", "-n", "1"]);
    restore();
    generate().ok();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::remove_file(copy.join(name)).expect("a file");
        let message = generate().refused();
        assert!(message.contains(name), "without {name}: {message}");
        restore();
        let whole = fs::read(copy.join(name)).expect("a file");
        fs::write(copy.join(name), &whole[..whole.len() / 2]).expect("a file");
        let message = generate().refused();
        assert!(message.contains(name), "half of {name}: {message}");
        restore();
    }
    let config = fs::read_to_string(copy.join("config.json")).expect("a file");
    fs::write(copy.join("config.json"), config.replace("\"hidden_size\": 64", "\"hidden_size\": 80"))
        .expect("a file");
    let message = generate().refused();
    assert!(message.contains("model.safetensors") || message.contains("tensor"), "{message}");
    fs::write(copy.join("config.json"), config.replacen('{', "{\"rope_scaling\": {\"factor\": 8.0},", 1))
        .expect("a file");
    let message = generate().refused();
    assert!(message.contains("rope_scaling"), "{message}");
}

#[test]
fn paths_that_do_not_exist_are_named() {
    for args in [
        &["generate", "no/such/model", "-p", "x"][..],
        &["perplexity", "-m", "no/such/model", "Cargo.toml"],
        &["tokenizer", "encode", "-m", "no/such/model", "x"],
    ] {
        let message = shakti(args).refused();
        assert!(
            message.contains("no/such/model: no such file or folder") && message.contains("hint: "),
            "{message}"
        );
    }
    let message = shakti(&["data", "inspect", "no/such/file"]).refused();
    assert!(message.contains("no/such/file"), "{message}");
}
