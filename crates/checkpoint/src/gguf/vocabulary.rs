//! The vocabulary in a GGUF file: the `tokenizer.` keys.

use shakti_gguf::{GgufError, GgufFile, GgufWriter};
use shakti_model::ModelConfig;
use shakti_tokenizer::{GgufValue, TokenKind, Tokenizer};

use crate::CheckpointError;

/// Where the vocabulary of an export comes from.
#[derive(Debug, Clone, Copy)]
pub enum ExportTokenizer<'a> {
    /// All `tokenizer.` keys of another GGUF file, as they are.
    CopyOf(&'a GgufFile),
    /// A vocabulary in memory, its chat template included.
    Tokenizer(&'a Tokenizer),
}

impl ExportTokenizer<'_> {
    pub(super) fn put(&self, writer: &mut GgufWriter, config: &ModelConfig) -> Result<(), CheckpointError> {
        match self {
            Self::CopyOf(file) => {
                for (key, value) in file.metadata().filter(|(key, _)| key.starts_with("tokenizer.")) {
                    writer.put(key, value)?;
                }
            }
            Self::Tokenizer(tokenizer) => {
                let (ids, rows) = (tokenizer.vocab_size(), config.vocab_size);
                if ids > rows {
                    let reason = format!("a vocabulary of {ids} ids for an embedding table of {rows} rows");
                    return Err(CheckpointError::NotExpressible { format: "gguf", reason });
                }
                for (key, mut value) in tokenizer.to_gguf_metadata()? {
                    fill(key, &mut value, rows);
                    put_value(writer, key, &value)?;
                }
            }
        }
        Ok(())
    }
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
