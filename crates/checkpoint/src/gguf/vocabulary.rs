//! The vocabulary in a GGUF file: the `tokenizer.` keys.

use std::collections::HashMap;

use shakti_gguf::{GgufError, GgufFile, GgufWriter};
use shakti_model::ModelConfig;
use shakti_tokenizer::{GgufValue, TokenKind, Tokenizer};

use super::EOS_TOKEN_IDS_KEY;
use crate::CheckpointError;

/// Where the vocabulary of an export comes from.
#[derive(Debug, Clone, Copy)]
pub enum ExportTokenizer<'a> {
    /// All `tokenizer.` keys of another GGUF file, as they are.
    CopyOf(&'a GgufFile),
    /// A vocabulary in memory, its chat template included.
    Tokenizer(&'a Tokenizer),
}

/// Keys of the ids that end a generation.
pub(super) const EOS_KEYS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
pub(super) const BOS_KEY: &str = "tokenizer.ggml.bos_token_id";
pub(super) const PAD_KEY: &str = "tokenizer.ggml.padding_token_id";

impl ExportTokenizer<'_> {
    /// Writes the vocabulary, and those of the configuration's token ids that it leaves unsaid.
    pub(super) fn put(&self, writer: &mut GgufWriter, config: &ModelConfig) -> Result<(), CheckpointError> {
        let mut ids = HashMap::new();
        match self {
            Self::CopyOf(file) => {
                for (key, value) in file.metadata().filter(|(key, _)| key.starts_with("tokenizer.")) {
                    writer.put(key, value)?;
                    ids.extend(value.as_u64().map(|id| (key.to_owned(), id)));
                }
            }
            Self::Tokenizer(tokenizer) => {
                let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
                if tokens > rows {
                    let reason =
                        format!("a vocabulary of {tokens} ids for an embedding table of {rows} rows");
                    return Err(CheckpointError::NotExpressible { format: "gguf", reason });
                }
                for (key, mut value) in tokenizer.to_gguf_metadata()? {
                    fill(key, &mut value, rows);
                    put_value(writer, key, &value)?;
                    if let GgufValue::U32(id) = value {
                        ids.insert(key.to_owned(), id.into());
                    }
                }
            }
        }
        put_missing_ids(writer, config, &ids)?;
        Ok(())
    }
}

/// Ids that the configuration has and the vocabulary has not. If the ids that end a generation differ still, they
/// are listed under a key of ours.
fn put_missing_ids(
    writer: &mut GgufWriter,
    config: &ModelConfig,
    ids: &HashMap<String, u64>,
) -> Result<(), GgufError> {
    let missing = [
        (BOS_KEY, config.bos_token_id),
        (EOS_KEYS[0], config.eos_token_ids.first().copied()),
        (PAD_KEY, config.pad_token_id),
    ];
    for (key, id) in missing {
        if let Some(id) = id.filter(|_| !ids.contains_key(key)) {
            writer.put(key, id)?;
        }
    }
    let first = config.eos_token_ids.first().map(|id| u64::from(*id));
    let mut said: Vec<u64> = ids.get(EOS_KEYS[0]).copied().or(first).into_iter().collect();
    for key in &EOS_KEYS[1..] {
        said.extend(ids.get(*key).filter(|id| !said.contains(id)));
    }
    let wanted: Vec<u64> = config.eos_token_ids.iter().map(|id| u64::from(*id)).collect();
    if !wanted.is_empty() && wanted != said {
        writer.put_array(EOS_TOKEN_IDS_KEY, &config.eos_token_ids)?;
    }
    Ok(())
}

/// Fills the lists that hold one entry for each token up to the rows of the embedding table.
fn fill(key: &str, value: &mut GgufValue, rows: usize) {
    match (key, value) {
        ("tokenizer.ggml.tokens", GgufValue::Strings(tokens)) => {
            tokens.extend((tokens.len()..rows).map(|id| format!("[PAD{id}]")));
        }
        ("tokenizer.ggml.token_type", GgufValue::Integers(kinds)) => {
            kinds.resize(rows, TokenKind::Unused as i32)
        }
        ("tokenizer.ggml.scores", GgufValue::Floats(scores)) => scores.resize(rows, 0.0),
        _ => {}
    }
}

fn put_value(writer: &mut GgufWriter, key: &str, value: &GgufValue) -> Result<(), GgufError> {
    match value {
        GgufValue::String(text) => writer.put(key, text),
        GgufValue::Strings(texts) => writer.put_strings(key, texts),
        GgufValue::Floats(numbers) => writer.put_array(key, numbers),
        GgufValue::Integers(numbers) => writer.put_array(key, numbers),
        GgufValue::U32(number) => writer.put(key, *number),
        GgufValue::Bool(truth) => writer.put(key, *truth),
    }
}
