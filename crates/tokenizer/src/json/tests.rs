//! Truncated and lying tokenizer files: an error that names file and field, never a panic.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn trained() -> crate::TrainedFiles {
    let text = "The quick brown fox, the lazy dog; the end. ".repeat(3);
    crate::train([text].iter(), &crate::TrainOptions { vocab_size: 290, min_frequency: 2 }).unwrap()
}

fn file() -> Value {
    serde_json::from_str(&trained().tokenizer_json).unwrap()
}

fn error(file: &Value) -> String {
    match Tokenizer::from_tokenizer_json(&file.to_string()) {
        Ok(_) => "accepted".into(),
        Err(error) => error.to_string(),
    }
}

/// The error after `change`.
fn error_of(change: impl FnOnce(&mut Value)) -> String {
    let mut file = file();
    assert!(Tokenizer::from_tokenizer_json(&file.to_string()).is_ok());
    change(&mut file);
    error(&file)
}

#[test]
fn missing_fields_are_named() {
    let missing = |section: Option<&str>, field: &str| {
        error_of(|file| {
            let section = match section {
                Some(section) => &mut file[section],
                None => file,
            };
            section.as_object_mut().unwrap().remove(field);
        })
    };
    assert_eq!(missing(None, "model"), "tokenizer.json: model: required field is missing");
    assert_eq!(missing(Some("model"), "vocab"), "tokenizer.json: vocab: required field is missing");
    assert_eq!(missing(Some("model"), "merges"), "tokenizer.json: model.merges: required field is missing");
}

#[test]
fn contradictions_are_named() {
    let vocab = |token: &'static str, id: Value| error_of(|file| file["model"]["vocab"][token] = id);
    assert_eq!(
        vocab("x!", json!(4_000_000_000_u32)),
        "tokenizer.json: model.vocab: id 4000000000 is out of range for 298 tokens"
    );
    assert_eq!(vocab("zz", json!(20)), "tokenizer.json: model.vocab: \".\" and \"zz\" both have id 20");
    assert!(vocab("zz", json!(-1)).starts_with("tokenizer.json: JSON: malformed: invalid value"));
    let merges = |merge: Value| error_of(|file| file["model"]["merges"][2] = merge);
    let unknown = "tokenizer.json: model.merges[2]: \"Qx\" is no token of the vocabulary";
    assert_eq!(merges(json!("Q x")), unknown);
    assert_eq!(merges(json!(["Q", "x"])), unknown);
    assert_eq!(merges(json!(["Qx", "x"])), unknown);
    for merge in [json!("Qx"), json!(["Q"]), json!(["Q", "x", "y"]), json!(7)] {
        let text = merges(merge);
        assert!(text.starts_with("tokenizer.json: JSON: malformed"), "{text}");
    }
    let added = error_of(|file| file["added_tokens"][1]["id"] = json!(30));
    assert_eq!(added, "tokenizer.json: added_tokens[1]: \"<|eos|>\" has id 30, which is \"8\"");
    let bytes = error_of(|file| {
        file["model"]["vocab"].as_object_mut().unwrap().remove("Ã");
    });
    assert_eq!(bytes, "tokenizer.json: model.vocab: not supported: a vocabulary without byte 0xC3 ('Ã')");
}

#[test]
fn what_would_change_ids_is_refused_by_name() {
    let refused = |path: &[&str], value: Value| {
        let text = error_of(|file| {
            *path.iter().fold(file, |value, field| &mut value[*field]) = value;
        });
        assert!(text.contains("not supported: "), "{text}");
        text.replace("tokenizer.json: ", "")
    };
    assert_eq!(
        refused(&["normalizer"], json!({"type": "NFC"})),
        "normalizer: not supported: {\"type\":\"NFC\"}"
    );
    assert_eq!(refused(&["model", "type"], json!("Unigram")), "model.type: not supported: Unigram");
    assert_eq!(refused(&["model", "dropout"], json!(0.1)), "model.dropout: not supported: 0.1");
    assert_eq!(
        refused(&["model", "end_of_word_suffix"], json!("</w>")),
        "model.end_of_word_suffix: not supported: \"</w>\""
    );
    let pre = refused(&["pre_tokenizer"], json!({"type": "ByteLevel", "add_prefix_space": true}));
    assert!(pre.starts_with("pre_tokenizer[0]: not supported: {"), "{pre}");
    let sequence = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]});
    let pre = refused(&["pre_tokenizer"], sequence);
    assert!(pre.starts_with("pre_tokenizer[0]: not supported: {") && pre.contains(r"\\w+"), "{pre}");
    assert!(refused(&["pre_tokenizer"], json!({"type": "Whitespace"})).contains("Whitespace"));
    let post = refused(&["post_processor"], json!({"type": "RobertaProcessing"}));
    assert!(post.starts_with("post_processor[0]: not supported"), "{post}");
    let single_word = error_of(|file| file["added_tokens"][0]["single_word"] = json!(true));
    assert_eq!(single_word, "tokenizer.json: added_tokens[0].single_word: not supported: true");
}

#[test]
fn files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::open(folder.path()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Io);
    assert!(error.place().ends_with("tokenizer.json"), "{error}");
    for (name, text) in trained().files() {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.special_ids().eos, Some(1));
    assert_eq!(tokenizer.special_ids().end_of_turn, Some(6));
    assert_eq!(tokenizer.stop_ids(), [1, 6]);
    assert_eq!(tokenizer.chat_template(), Some(crate::DEFAULT_CHAT_TEMPLATE));
    assert!(tokenizer.adds_bos() && !tokenizer.adds_eos());
    std::fs::write(folder.path().join("tokenizer_config.json"), "{\"bos_token\": 7}").unwrap();
    let error = Tokenizer::open(folder.path().join("tokenizer.json")).unwrap_err();
    assert!(error.to_string().ends_with("tokenizer_config.json: bos_token: 7 is no token"), "{error}");
}

#[test]
fn truncated_files_are_errors() {
    let text = trained().tokenizer_json;
    for end in (0..text.trim_end().len()).step_by(13).filter(|end| text.is_char_boundary(*end)) {
        let error = Tokenizer::from_tokenizer_json(&text[..end]).unwrap_err();
        assert!(error.to_string().starts_with("tokenizer.json: "), "{error}");
    }
}

proptest! {
    /// Any byte of the file replaced, and any JSON value anywhere: an error or a tokenizer that works.
    #[test]
    fn damaged_files_do_not_panic(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), "[\\x00-~]|é|\"|\\\\u0120|[0-9]{1,12}"), 1..4),
    ) {
        thread_local! {
            static TEXT: String = trained().tokenizer_json;
        }
        let mut text = TEXT.with(String::clone);
        for (at, new) in edits {
            let at = text.floor_char_boundary(at.index(text.len()));
            let end = text.ceil_char_boundary(at + 1);
            text.replace_range(at..end, &new);
        }
        if let Ok(tokenizer) = Tokenizer::from_tokenizer_json(&text) {
            let mut ids = Vec::new();
            tokenizer.encode("The quick brown fox <|end|> 🙂\n", &mut ids);
            tokenizer.encode_with_special("<|end|><|pad|>x", &mut ids);
            tokenizer.decode(&ids);
            let _ = tokenizer.to_gguf_metadata();
        }
    }
}
