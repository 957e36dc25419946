//! `shakti tokenizer`.

use crate::common::{TEXT, arg, fixture, model, repository, shakti, shakti_with_input};

#[test]
fn a_trained_vocabulary_encodes_and_decodes_losslessly() {
    let out = fixture().join("vocabulary");
    let text = fixture().join("text.txt");
    let args =
        ["tokenizer", "train", arg(&text), "-o", arg(&out), "--vocab-size", "290", "--min-frequency", "1"];
    let report = shakti(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(report["vocab_size"], 290);
    for sentence in [TEXT.trim_end(), "फेफड़े और ஆஸ்துமா: ¿qué?", "<|end|> is text"]
    {
        let ids = shakti(&["tokenizer", "encode", "-m", arg(&out), sentence]).ok();
        let from_input = shakti_with_input(&["tokenizer", "encode", "-m", arg(&out)], sentence).ok();
        assert_eq!(ids, from_input);
        let ids: Vec<&str> = ids.split_whitespace().collect();
        let decoded = shakti(&[&["tokenizer", "decode", "-m", arg(&out)], &ids[..]].concat()).ok();
        assert_eq!(decoded, format!("{sentence}\n"));
    }
    let message = shakti(&args).refused();
    assert!(message.contains("output exists") && message.contains("--force"), "{message}");
    shakti(&[&args[..], &["--force"]].concat()).ok();
}

#[test]
fn models_of_any_kind_bring_their_vocabulary() {
    let folder = model();
    let gguf = repository("golden/gguf/bpe_q4_k_m.gguf");
    let file = folder.join("tokenizer.json");
    for path in [&folder, &gguf, &file] {
        let report = shakti(&["tokenizer", "encode", "-m", arg(path), "What is asthma?", "--json"]).json();
        let tokens: Vec<&str> =
            report["tokens"].as_array().expect("tokens").iter().filter_map(|t| t.as_str()).collect();
        assert_eq!(tokens.concat(), "What is asthma?", "{}", path.display());
    }
}

#[test]
fn ids_outside_the_vocabulary_and_broken_files_are_named() {
    let model = model();
    let message = shakti(&["tokenizer", "decode", "-m", arg(&model), "1", "99999"]).refused();
    assert!(message.contains("id 99999"), "{message}");
    let broken = fixture().join("broken.jsonl");
    std::fs::write(&broken, "{\"text\": \"good\"}\n{\"text\": \n").expect("a file");
    let out = fixture().join("never");
    let message = shakti(&["tokenizer", "train", arg(&broken), "-o", arg(&out)]).refused();
    assert!(message.contains("broken.jsonl") && message.contains('2'), "the line is named: {message}");
    assert!(!out.exists(), "nothing is written");
}
