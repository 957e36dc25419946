//! Hugging Face folders: `config.json`, `model.safetensors` (one file or shards), tokenizer files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use shakti_kernels::blocks::DType;
use shakti_model::{ModelConfig, ParamSpec, TensorData, TensorSource};

use crate::CheckpointError;
use crate::check::{FoundTensor, check_no_extra, check_parameters};
use crate::files::{read_text, read_text_if_present};
use crate::safetensors::{SafetensorsFile, StoredTensor};

mod plain;
mod writer;

pub(crate) use plain::dense_warning;
pub use plain::{PlainModel, RepetitionCost};
pub use writer::{FolderContents, fill_folder, write_folder};

/// The model's configuration.
pub const CONFIG_FILE: &str = "config.json";
/// All weights in one file.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Which shard holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Vocabulary and rules of the tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Special tokens and other settings of the tokenizer.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
/// The chat template.
pub const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";
/// Token ids that begin and end a generation.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// Types of weights that safetensors files may hold here.
const USABLE: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// An open folder whose tensors have been checked against its configuration.
#[derive(Debug)]
pub struct HfFolder {
    path: PathBuf,
    config: ModelConfig,
    files: Vec<SafetensorsFile>,
    /// Tensor name to index in `files`.
    places: HashMap<String, usize>,
    dtypes: HashMap<String, DType>,
}

impl HfFolder {
    /// Reads configuration and headers and checks every tensor's name, shape and type. Weights are not touched.
    ///
    /// # Errors
    /// Names the file and the tensor or key.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref().to_path_buf();
        let config = read_config(&path)?;
        let files = open_weights(&path)?;
        let mut places = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            for tensor in file.tensors() {
                if let Some(other) = places.insert(tensor.name.clone(), index) {
                    let (expected, found) =
                        ("every tensor once", format!("it in {} too", files[other].path().display()));
                    let place = format!("tensor `{}`", tensor.name);
                    return Err(CheckpointError::damaged(file.path(), place, expected, found));
                }
            }
        }
        let mut folder = Self { path, config, files, places, dtypes: HashMap::new() };
        folder.check()?;
        Ok(folder)
    }

    fn check(&mut self) -> Result<(), CheckpointError> {
        let specs = self.config.parameters();
        let found = |name: &str| {
            self.stored(name).map(|(_, tensor)| FoundTensor {
                shape: tensor.shape.clone(),
                dtype: tensor.dtype.parse().ok(),
                dtype_name: tensor.dtype.clone(),
            })
        };
        let dtypes = check_parameters(&self.path, &specs, &USABLE, |spec| spec.name.clone(), found)?;
        let names = self.places.keys().map(String::as_str).collect::<BTreeSet<_>>();
        check_no_extra(
            &self.path,
            &specs,
            |spec| spec.name.clone(),
            names.into_iter(),
            |name| Ok(self.is_inert(name)),
        )?;
        self.dtypes = specs.into_iter().map(|spec| spec.name).zip(dtypes).collect();
        Ok(())
    }

    /// Tensors that old exports carry and that change nothing: tables of rotary frequencies, which follow from the
    /// configuration, and the copy of a tied embedding.
    fn is_inert(&self, name: &str) -> bool {
        let bytes = |name: &str| self.stored(name).map(|(file, tensor)| (file.bytes(tensor), &tensor.shape));
        let is_tied_copy = name == "lm_head.weight"
            && self.config.tie_word_embeddings
            && bytes(name) == bytes("model.embed_tokens.weight");
        is_tied_copy || name.ends_with(".self_attn.rotary_emb.inv_freq")
    }

    fn stored(&self, name: &str) -> Option<(&SafetensorsFile, &StoredTensor)> {
        let file = &self.files[*self.places.get(name)?];
        Some((file, file.tensor(name)?))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration in `config.json`.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Bytes of the weights as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.files.iter().flat_map(|f| f.tensors().iter().map(|t| f.bytes(t).len() as u64)).sum()
    }

    /// The chat template of the folder, if it has one.
    ///
    /// # Errors
    /// If a file that should hold it cannot be read.
    pub fn chat_template(&self) -> Result<Option<String>, CheckpointError> {
        read_chat_template(&self.path)
    }
}

impl TensorSource for HfFolder {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let missing = || CheckpointError::MissingTensor { path: self.path.clone(), name: spec.name.clone() };
        let (file, tensor) = self.stored(&spec.name).ok_or_else(missing)?;
        if tensor.shape != spec.shape {
            let (path, name) = (file.path().to_path_buf(), spec.name.clone());
            let (expected, found) = (spec.shape.clone(), tensor.shape.clone());
            return Err(CheckpointError::WrongShape { path, name, expected, found }.into());
        }
        let dtype = *self.dtypes.get(&spec.name).ok_or_else(missing)?;
        Ok(TensorData { dtype, bytes: Cow::Borrowed(file.bytes(tensor)) })
    }

    fn will_need(&self, specs: &[&ParamSpec]) {
        for (file, tensor) in specs.iter().filter_map(|spec| self.stored(&spec.name)) {
            file.will_need(tensor);
        }
    }

    fn release(&self, specs: &[&ParamSpec]) {
        for (file, tensor) in specs.iter().filter_map(|spec| self.stored(&spec.name)) {
            file.release(tensor);
        }
    }
}

/// Reads the `config.json` of a folder.
///
/// # Errors
/// If it is missing, or holds a key that cannot be used.
pub fn read_config(folder: &Path) -> Result<ModelConfig, CheckpointError> {
    let path = folder.join(CONFIG_FILE);
    let text = read_text(&path)?;
    ModelConfig::from_json(&text).map_err(|source| CheckpointError::Config { path, source })
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The weight file, or all shards that the index names, with the index checked against them.
fn open_weights(folder: &Path) -> Result<Vec<SafetensorsFile>, CheckpointError> {
    let single = folder.join(WEIGHTS_FILE);
    if single.exists() {
        return Ok(vec![SafetensorsFile::open(&single)?]);
    }
    let path = folder.join(INDEX_FILE);
    let Some(text) = read_text_if_present(&path)? else {
        let found = if folder.join("pytorch_model.bin").exists() {
            "pytorch_model.bin, which runs code when it is read: convert it to safetensors"
        } else {
            "neither"
        };
        let expected = format!("{WEIGHTS_FILE} or {INDEX_FILE}");
        return Err(CheckpointError::NotAModel {
            path: folder.to_path_buf(),
            expected,
            found: found.to_owned(),
        });
    };
    let index: ShardIndex = serde_json::from_str(&text)
        .map_err(|e| CheckpointError::damaged(&path, "index", "a `weight_map`", e.to_string()))?;
    let mut files = BTreeMap::new();
    for (name, shard) in &index.weight_map {
        if !files.contains_key(shard) {
            if !is_plain_name(shard) {
                let place = format!("tensor `{}`", name.escape_debug());
                let found = shard.escape_debug().to_string();
                return Err(CheckpointError::damaged(
                    &path,
                    place,
                    "the name of a file beside the index",
                    found,
                ));
            }
            files.insert(shard.clone(), SafetensorsFile::open(&folder.join(shard))?);
        }
        let file = &files[shard];
        if file.tensor(name).is_none() {
            return Err(CheckpointError::MissingTensor {
                path: file.path().to_path_buf(),
                name: name.clone(),
            });
        }
    }
    Ok(files.into_values().collect())
}

/// Whether `name` stays in its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
}

/// The template in `chat_template.jinja`, else the one in `tokenizer_config.json` (of several the one named
/// `default`).
fn read_chat_template(folder: &Path) -> Result<Option<String>, CheckpointError> {
    if let Some(text) = read_text_if_present(&folder.join(CHAT_TEMPLATE_FILE))? {
        return Ok(Some(text));
    }
    let path = folder.join(TOKENIZER_CONFIG_FILE);
    let Some(text) = read_text_if_present(&path)? else { return Ok(None) };
    let config: Value = serde_json::from_str(&text)
        .map_err(|e| CheckpointError::damaged(&path, "file", "a JSON object", e.to_string()))?;
    match &config["chat_template"] {
        Value::Null => Ok(None),
        Value::String(template) => Ok(Some(template.clone())),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            Ok(default.and_then(|entry| entry["template"].as_str()).map(str::to_owned))
        }
        other => {
            let expected = "a text or a list of named texts";
            Err(CheckpointError::damaged(&path, "key `chat_template`", expected, other.to_string()))
        }
    }
}
