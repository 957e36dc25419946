//! Training a vocabulary: byte-level BPE over an iterator of texts, with our control tokens first.
//!
//! Words are cut by the same scanner that encodes (`qwen35`: words keep their combining marks, which Indic scripts
//! write vowels with; every digit stands alone; llama.cpp splits alike), merges are learnt by the `tokenizers` crate. The same
//! texts give the same bytes.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Trainer};

use crate::bytes::{byte_to_char, spell};
use crate::error::{ErrorKind, TokenizerError};
use crate::split::{QWEN35, split};
use crate::write::{FileScheme, ModelFile, pretty, tokenizer_json};

/// Our control tokens: ids 0 to 6.
pub const CONTROL_TOKENS: [&str; 7] =
    ["<|bos|>", "<|eos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"];

/// The smallest vocabulary: the control tokens and every byte.
pub const SMALLEST_VOCAB: usize = CONTROL_TOKENS.len() + 256;

/// What to train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainOptions {
    /// Number of ids, control tokens and bytes included. A corpus with few different words gives fewer.
    pub vocab_size: usize,
    /// Pairs that occur less often are not merged.
    pub min_frequency: u64,
}

/// Contents of the files of a trained tokenizer, as Hugging Face folders hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedFiles {
    /// `tokenizer.json`.
    pub tokenizer_json: String,
    /// `tokenizer_config.json`.
    pub tokenizer_config_json: String,
    /// `special_tokens_map.json`.
    pub special_tokens_map_json: String,
    /// `chat_template.jinja`.
    pub chat_template: String,
}

impl TrainedFiles {
    /// File names with their contents.
    pub fn files(&self) -> [(&'static str, &str); 4] {
        [
            ("tokenizer.json", &self.tokenizer_json),
            ("tokenizer_config.json", &self.tokenizer_config_json),
            ("special_tokens_map.json", &self.special_tokens_map_json),
            ("chat_template.jinja", &self.chat_template),
        ]
    }
}

/// Learns a vocabulary from `texts`. All cores work; the result does not depend on their number.
pub fn train<S: AsRef<str> + Send>(
    texts: impl Iterator<Item = S> + Send,
    options: &TrainOptions,
) -> Result<TrainedFiles, TokenizerError> {
    if options.vocab_size < SMALLEST_VOCAB {
        let why = format!("a vocabulary of {} is less than {SMALLEST_VOCAB}", options.vocab_size);
        return Err(TokenizerError::new(ErrorKind::Training(why), "vocab_size"));
    }
    let failed = |error| TokenizerError::new(ErrorKind::Training("merges".into()), "training").because(error);
    let control = CONTROL_TOKENS.map(|text| AddedToken::from(text, true));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(options.vocab_size)
        .min_frequency(options.min_frequency)
        .special_tokens(control.to_vec())
        .initial_alphabet((0..=255).map(byte_to_char).collect())
        .show_progress(false)
        .build();
    trainer.feed(texts, |text| Ok(words(text))).map_err(failed)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    files_of(&model)
}

/// The pieces of `text` in the spelling of the vocabulary.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    split(QWEN35, text, &mut |piece| words.push(spell(piece.as_bytes())));
    words
}

fn files_of(model: &BPE) -> Result<TrainedFiles, TokenizerError> {
    let broken = || TokenizerError::new(ErrorKind::Training("the model has no merges".into()), "training");
    let value = serde_json::to_value(model).map_err(|error| broken().because(error))?;
    let vocab = value.get("vocab").and_then(Value::as_object).ok_or_else(broken)?;
    let mut tokens = vec![String::new(); vocab.len()];
    for (text, id) in vocab {
        let slot = id.as_u64().and_then(|id| tokens.get_mut(id as usize)).ok_or_else(broken)?;
        slot.clone_from(text);
    }
    let merges = value.get("merges").and_then(Value::as_array).ok_or_else(broken)?;
    let merges = merges.iter().map(|merge| match merge.as_array().map(Vec::as_slice) {
        Some([Value::String(left), Value::String(right)]) => Some((left.clone(), right.clone())),
        _ => None,
    });
    let merges: Vec<_> = merges.collect::<Option<_>>().ok_or_else(broken)?;
    let added = (0..).zip(CONTROL_TOKENS).map(|(id, text)| (id, text.to_owned(), true)).collect();
    let scheme = FileScheme::ByteLevel { stages: QWEN35.to_vec(), ignore_merges: false };
    let file = ModelFile { tokens, merges, added, scheme, unk: None, bos: Some(0), eos: None };
    Ok(TrainedFiles {
        tokenizer_json: tokenizer_json(&file),
        tokenizer_config_json: pretty(&config()),
        special_tokens_map_json: pretty(&special_tokens_map()),
        chat_template: crate::DEFAULT_CHAT_TEMPLATE.to_owned(),
    })
}

fn special_tokens_map() -> Value {
    json!({ "bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>" })
}

fn config() -> Value {
    let mut decoder = serde_json::Map::new();
    for (id, text) in CONTROL_TOKENS.iter().enumerate() {
        let token = json!({
            "content": text, "lstrip": false, "normalized": false, "rstrip": false,
            "single_word": false, "special": true,
        });
        decoder.insert(id.to_string(), token);
    }
    json!({
        "added_tokens_decoder": decoder,
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "pad_token": "<|pad|>",
        "additional_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        "chat_template": crate::DEFAULT_CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "tokenizer_class": "PreTrainedTokenizerFast",
    })
}
