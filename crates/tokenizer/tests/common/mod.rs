//! What the integration tests share: corpora, a trained vocabulary, access to GGUF files.
#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shakti_gguf::GgufFile;
use shakti_tokenizer::{GgufLookup, TrainOptions, TrainedFiles, train};

/// The small text of eight languages, code, numbers, white space and emoji that the repository holds.
pub const MULTILINGUAL: &str = include_str!("../multilingual.txt");

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The first `bytes` or so of the repository's own text and of every corpus beside the repository, where there are any.
pub fn corpora(bytes: usize) -> Vec<String> {
    let folder = workspace().join("../shared/data/corpus");
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => {
            eprintln!("no corpus in {}: the repository's own text alone", folder.display());
            Vec::new()
        }
    };
    paths.retain(|path| path.to_string_lossy().ends_with(".jsonl.zst"));
    paths.push(workspace().join("data/quickstart/medical_text.jsonl.zst"));
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let reader = zstd::Decoder::new(std::fs::File::open(&path).unwrap()).unwrap();
        let mut left = bytes;
        for line in std::io::BufReader::new(reader).lines() {
            let record: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            let text = record["text"].as_str().unwrap().to_owned();
            left = left.saturating_sub(text.len());
            texts.push(text);
            if left == 0 {
                break;
            }
        }
    }
    texts
}

/// A vocabulary trained on the small text.
pub fn trained(vocab_size: usize) -> TrainedFiles {
    train(MULTILINGUAL.lines(), &TrainOptions { vocab_size, min_frequency: 2 }).unwrap()
}

/// `tokenizer.json` of SentencePiece-style vocabularies, trained by the oracle on characters with U+2581 for spaces.
pub fn spm_files() -> Vec<(&'static str, String)> {
    use tokenizers::Trainer;
    use tokenizers::models::bpe::{BPE, BpeTrainer};
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let special = ["<unk>", "<s>", "</s>"].into_iter().map(String::from).chain(bytes);
    let special: Vec<_> = special.map(|text| tokenizers::AddedToken::from(text, true)).collect();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(1500)
        .special_tokens(special)
        .limit_alphabet(120)
        .show_progress(false)
        .build();
    let marked = MULTILINGUAL.lines().map(|line| format!("▁{}", line.replace(' ', "▁")));
    trainer
        .feed(marked, |line| {
            Ok(line.split_inclusive('▁').map(str::to_owned).chain([line.to_owned()]).collect())
        })
        .unwrap();
    let mut model = BPE::default();
    trainer.train(&mut model).unwrap();
    let mut model = serde_json::to_value(&model).unwrap();
    for (field, value) in
        [("byte_fallback", json!(true)), ("fuse_unk", json!(true)), ("unk_token", json!("<unk>"))]
    {
        model[field] = value;
    }
    let added: Vec<Value> = ["<unk>", "<s>", "</s>"]
        .iter()
        .enumerate()
        .map(|(id, text)| json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}))
        .collect();
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]});
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    let at_space = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    let schemes = [
        ("prepend", prepend, Value::Null),
        ("replace", replace, at_space),
        ("always", Value::Null, metaspace("always", false)),
        ("first, split", Value::Null, metaspace("first", true)),
        ("never", Value::Null, metaspace("never", false)),
    ];
    let file = |(name, normalizer, pre): (&'static str, Value, Value)| {
        let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": null, "decoder": null, "model": model});
        (name, file.to_string())
    };
    schemes.into_iter().map(file).collect()
}

/// Metadata of a GGUF file.
pub struct Metadata<'f>(pub &'f GgufFile);

impl GgufLookup for Metadata<'_> {
    fn string(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn for_each_string<'a>(&'a self, key: &str, each: &mut dyn FnMut(&'a str)) -> Option<()> {
        self.0.get(key)?.as_array()?.strings().ok()?.try_for_each(|text| text.map(&mut *each)).ok()
    }

    fn floats(&self, key: &str) -> Option<Vec<f32>> {
        self.0.get(key)?.as_array()?.to_f32s().ok()
    }

    fn integers(&self, key: &str) -> Option<Vec<i32>> {
        let numbers = self.0.get(key)?.as_array()?.to_i64s().ok()?;
        numbers.into_iter().map(|number| i32::try_from(number).ok()).collect()
    }

    fn integer(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.as_bool()
    }
}
