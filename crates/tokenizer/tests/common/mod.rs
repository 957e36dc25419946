//! What the integration tests share: corpora, a trained vocabulary, access to GGUF files.
#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::io::BufRead;
use std::path::{Path, PathBuf};

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

/// Metadata of a GGUF file.
pub struct Metadata<'f>(pub &'f GgufFile);

impl GgufLookup for Metadata<'_> {
    fn string(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn strings(&self, key: &str) -> Option<Vec<&str>> {
        self.0.get(key)?.as_array()?.strings().ok()?.collect::<Result<_, _>>().ok()
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
