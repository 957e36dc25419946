//! The vocabulary in a GGUF file: the `tokenizer.` keys.

use shakti_gguf::{GgufFile, GgufWriter};
use shakti_model::ModelConfig;

use crate::CheckpointError;

/// Kind of a token that fills the vocabulary up to the size of the embedding table.
const UNUSED: i32 = 5;

/// Where the vocabulary of an export comes from.
#[derive(Debug, Clone, Copy)]
pub enum ExportTokenizer<'a> {
    /// All `tokenizer.` keys of another GGUF file, as they are.
    CopyOf(&'a GgufFile),
    /// A vocabulary in memory.
    Vocabulary(&'a GgufVocabulary),
}

/// A byte-level BPE vocabulary in GGUF's terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GgufVocabulary {
    /// How text is cut before merging, `tokenizer.ggml.pre`: `gpt-2`, `qwen2`, `llama-bpe` ...
    pub pre: String,
    /// Spelling of every token, by id, in the printable alphabet of byte-level BPE (control tokens literally).
    pub tokens: Vec<String>,
    /// Kind of every token: 1 normal, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// Merges in order of priority, `LEFT RIGHT`.
    pub merges: Vec<String>,
    /// Begin of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// End of a turn in a chat.
    pub eot: Option<u32>,
    /// Whether a text begins with `bos`.
    pub adds_bos: bool,
    /// Jinja template of the chat format.
    pub chat_template: Option<String>,
}

impl ExportTokenizer<'_> {
    pub(super) fn put(&self, writer: &mut GgufWriter, config: &ModelConfig) -> Result<(), CheckpointError> {
        match self {
            Self::Vocabulary(vocabulary) => vocabulary.put(writer, config),
            Self::CopyOf(file) => {
                for (key, value) in file.metadata().filter(|(key, _)| key.starts_with("tokenizer.")) {
                    writer.put(key, value)?;
                }
                Ok(())
            }
        }
    }
}

impl GgufVocabulary {
    fn put(&self, writer: &mut GgufWriter, config: &ModelConfig) -> Result<(), CheckpointError> {
        let (tokens, kinds) = (self.tokens.len(), self.token_types.len());
        if tokens != kinds || tokens > config.vocab_size {
            let size = config.vocab_size;
            let reason = format!("{tokens} tokens with {kinds} kinds for an embedding table of {size} rows");
            return Err(CheckpointError::NotExpressible { format: "gguf", reason });
        }
        let fill = tokens..config.vocab_size;
        let spellings: Vec<String> =
            self.tokens.iter().cloned().chain(fill.clone().map(|id| format!("[PAD{id}]"))).collect();
        let kinds: Vec<i32> = self.token_types.iter().copied().chain(fill.map(|_| UNUSED)).collect();
        writer.put("tokenizer.ggml.model", "gpt2")?;
        writer.put("tokenizer.ggml.pre", self.pre.as_str())?;
        writer.put_strings("tokenizer.ggml.tokens", &spellings)?;
        writer.put_array("tokenizer.ggml.token_type", &kinds)?;
        writer.put_strings("tokenizer.ggml.merges", &self.merges)?;
        let ids = [("bos", self.bos), ("eos", self.eos), ("padding", self.pad), ("eot", self.eot)];
        for (name, id) in ids {
            if let Some(id) = id {
                writer.put(&format!("tokenizer.ggml.{name}_token_id"), id)?;
            }
        }
        writer.put("tokenizer.ggml.add_bos_token", self.adds_bos)?;
        writer.put("tokenizer.ggml.add_eos_token", false)?;
        if let Some(template) = &self.chat_template {
            writer.put("tokenizer.chat_template", template)?;
        }
        Ok(())
    }
}
