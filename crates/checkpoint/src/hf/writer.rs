//! Writing a Hugging Face folder: all files into a hidden folder beside the target, checksums, then one rename.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shakti_kernels::blocks::DType;
use shakti_model::{ModelConfig, TensorSource};

use super::{
    CHAT_TEMPLATE_FILE, CONFIG_FILE, GENERATION_CONFIG_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, USABLE,
    WEIGHTS_FILE,
};
use crate::CheckpointError;
use crate::files::{Overwrite, read_text_if_present, write_file};
use crate::folder::AtomicFolder;
use crate::recode::{rows_and_cols, tensor_as};
use crate::safetensors::{PlannedTensor, write_safetensors};

/// What goes into a folder besides weights and configuration.
#[derive(Debug, Clone, Default)]
pub struct FolderContents {
    /// `tokenizer.json`.
    pub tokenizer_json: Option<String>,
    /// `tokenizer_config.json`.
    pub tokenizer_config_json: Option<String>,
    /// `chat_template.jinja`.
    pub chat_template: Option<String>,
    /// Other files: name and content (a model card, a resolved recipe).
    pub others: Vec<(String, Vec<u8>)>,
}

/// Writes a folder that [`super::HfFolder`] reads, and Transformers too if the model is plain. It appears whole, with
/// checksums, under its name or not at all.
///
/// `dtype` is F32, F16 or BF16 and holds for every tensor.
///
/// # Errors
/// What the source reports, another `dtype`, or the system's refusal.
pub fn write_folder(
    path: &Path,
    overwrite: Overwrite,
    config: &ModelConfig,
    source: &dyn TensorSource,
    dtype: DType,
    contents: &FolderContents,
) -> Result<(), CheckpointError> {
    let folder = AtomicFolder::create(path, overwrite)?;
    fill_folder(folder.path(), config, source, dtype, contents)?;
    folder.commit()
}

/// Writes the same files into an existing empty folder, for callers that add their own and commit the whole.
///
/// # Errors
/// As [`write_folder`].
pub fn fill_folder(
    folder: &Path,
    config: &ModelConfig,
    source: &dyn TensorSource,
    dtype: DType,
    contents: &FolderContents,
) -> Result<(), CheckpointError> {
    write_text(folder, CONFIG_FILE, &config.to_json())?;
    write_text(folder, GENERATION_CONFIG_FILE, &generation_config(config))?;
    contents.write(folder)?;
    write_weights(&folder.join(WEIGHTS_FILE), config, source, dtype)
}

/// What Transformers calls the special tokens, for programs that ask for it; nothing here reads it.
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";

impl FolderContents {
    /// Reads the files of a tokenizer: `tokenizer.json` (under whatever name) and what stands beside it.
    ///
    /// # Errors
    /// The system's refusal, or a file that is too long or not UTF-8; files that are not there are `None`.
    pub fn of_tokenizer(tokenizer_json: &Path) -> Result<Self, CheckpointError> {
        let beside = |name: &str| read_text_if_present(&tokenizer_json.with_file_name(name));
        let special = beside(SPECIAL_TOKENS_FILE)?;
        Ok(Self {
            tokenizer_json: read_text_if_present(tokenizer_json)?,
            tokenizer_config_json: beside(TOKENIZER_CONFIG_FILE)?,
            chat_template: beside(CHAT_TEMPLATE_FILE)?,
            others: special.map(|text| (SPECIAL_TOKENS_FILE.into(), text.into_bytes())).into_iter().collect(),
        })
    }

    /// Writes these files into a folder that has none of them.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn write(&self, folder: &Path) -> Result<(), CheckpointError> {
        let texts = [
            (TOKENIZER_FILE, &self.tokenizer_json),
            (TOKENIZER_CONFIG_FILE, &self.tokenizer_config_json),
            (CHAT_TEMPLATE_FILE, &self.chat_template),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                write_text(folder, name, text)?;
            }
        }
        for (name, bytes) in &self.others {
            write_file(&folder.join(name), bytes, Overwrite::Refuse)?;
        }
        Ok(())
    }
}

fn write_text(folder: &Path, name: &str, text: &str) -> Result<PathBuf, CheckpointError> {
    let path = folder.join(name);
    write_file(&path, text.as_bytes(), Overwrite::Refuse)?;
    Ok(path)
}

fn write_weights(
    path: &Path,
    config: &ModelConfig,
    source: &dyn TensorSource,
    dtype: DType,
) -> Result<(), CheckpointError> {
    let dtype_name = match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        other => {
            let reason = format!("{other} is none of {}", USABLE.map(|d| d.name()).join(", "));
            return Err(CheckpointError::NotExpressible { format: "safetensors", reason });
        }
    };
    let specs = config.parameters();
    let mut planned = Vec::with_capacity(specs.len());
    for spec in &specs {
        let (rows, cols) = rows_and_cols(spec);
        let byte_len = dtype
            .matrix_bytes(rows, cols)
            .map_err(|error| CheckpointError::Source { name: spec.name.clone(), source: Box::new(error) })?;
        let (name, shape) = (spec.name.clone(), spec.shape.clone());
        planned.push(PlannedTensor { name, dtype: dtype_name, shape, byte_len });
    }
    let mut specs = specs.iter();
    write_safetensors(path, Overwrite::Refuse, &planned, |tensor| match specs.next() {
        Some(spec) => tensor_as(source, spec, dtype),
        None => Err(CheckpointError::MissingTensor { path: path.to_path_buf(), name: tensor.name.clone() }),
    })
}

/// Transformers reads the ids that begin and end a text from here.
fn generation_config(config: &ModelConfig) -> String {
    let eos = match config.eos_token_ids.as_slice() {
        [] => Value::Null,
        [single] => json!(single),
        several => json!(several),
    };
    let all = [
        ("bos_token_id", json!(config.bos_token_id)),
        ("eos_token_id", eos),
        ("pad_token_id", json!(config.pad_token_id)),
    ];
    let present: serde_json::Map<_, _> = all
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    format!("{:#}\n", Value::Object(present))
}
