//! One way to open a model, whatever it is stored in.

use std::path::Path;

use shakti_gguf::GgufFile;
use shakti_model::{MatrixData, ModelConfig, ParamSpec, TensorData, TensorSource};

use crate::{CheckpointError, GgufModel, HfFolder};

/// An open model: a Hugging Face folder or a GGUF file.
#[derive(Debug)]
pub enum ModelFile {
    /// A folder with `config.json` and safetensors.
    Folder(HfFolder),
    /// A GGUF file.
    Gguf(GgufModel),
}

/// Where a model keeps its vocabulary.
#[derive(Debug, Clone, Copy)]
pub enum TokenizerSource<'a> {
    /// `tokenizer.json` and its companions in this folder, if they are there.
    Folder(&'a Path),
    /// The `tokenizer.` keys of this file.
    Gguf(&'a GgufFile),
}

impl ModelFile {
    /// Opens a folder, or a file that must be GGUF, and checks every tensor's name, shape and type. Weights stay on the
    /// disk until they are asked for.
    ///
    /// # Errors
    /// Names the file and the tensor or key.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let metadata = path.metadata().map_err(|e| CheckpointError::io(path, "open the model", e))?;
        if metadata.is_dir() {
            HfFolder::open(path).map(Self::Folder)
        } else {
            GgufModel::open(path).map(Self::Gguf)
        }
    }

    /// The path the model was opened with.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::Gguf(model) => model.path(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Folder(folder) => folder.config(),
            Self::Gguf(model) => model.config(),
        }
    }

    /// Bytes of the weights as stored.
    pub fn weight_bytes(&self) -> u64 {
        match self {
            Self::Folder(folder) => folder.weight_bytes(),
            Self::Gguf(model) => model.weight_bytes(),
        }
    }

    /// Where the vocabulary lies.
    pub fn tokenizer(&self) -> TokenizerSource<'_> {
        match self {
            Self::Folder(folder) => TokenizerSource::Folder(folder.path()),
            Self::Gguf(model) => TokenizerSource::Gguf(model.file()),
        }
    }

    /// The chat template, if there is one.
    ///
    /// # Errors
    /// If the file that holds it cannot be read.
    pub fn chat_template(&self) -> Result<Option<String>, CheckpointError> {
        match self {
            Self::Folder(folder) => folder.chat_template(),
            Self::Gguf(model) => model.chat_template(),
        }
    }
}

impl TensorSource for ModelFile {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Folder(folder) => folder.tensor(spec),
            Self::Gguf(model) => model.tensor(spec),
        }
    }

    fn matrix(&self, spec: &ParamSpec) -> Result<MatrixData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Folder(folder) => folder.matrix(spec),
            Self::Gguf(model) => model.matrix(spec),
        }
    }

    fn will_need(&self, specs: &[&ParamSpec]) {
        match self {
            Self::Folder(folder) => folder.will_need(specs),
            Self::Gguf(model) => model.will_need(specs),
        }
    }

    fn release(&self, specs: &[&ParamSpec]) {
        match self {
            Self::Folder(folder) => folder.release(specs),
            Self::Gguf(model) => model.release(specs),
        }
    }
}
