//! An open GGUF model: tensors by state-dict name, mapped, query and key rows put back into half-split order.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use shakti_gguf::{GgufFile, TensorInfo};
use shakti_kernels::blocks::{DType, dequantize_row};
use shakti_model::{MatrixData, ModelConfig, ParamSpec, TensorData, TensorSource};

use super::config::read_config;
use crate::CheckpointError;
use crate::check::{FoundTensor, check_no_extra, check_parameters};
use crate::names::{RotaryRows, gguf_name};

/// Factors by which llama.cpp divides rotary frequencies (Llama 3.1's scaling).
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A GGUF file of architecture "llama" or "deci" whose tensors have been checked against its metadata.
#[derive(Debug)]
pub struct GgufModel {
    file: GgufFile,
    path: PathBuf,
    config: ModelConfig,
}

impl GgufModel {
    /// Maps the file, reads its configuration and checks every tensor's name, shape and type. Weights are not touched.
    ///
    /// # Errors
    /// Names the file and the tensor or key.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref().to_path_buf();
        let file = GgufFile::open(&path)?;
        let config = read_config(&file, &path)?;
        let model = Self { file, path, config };
        model.check()?;
        Ok(model)
    }

    fn check(&self) -> Result<(), CheckpointError> {
        let specs = self.config.parameters();
        let found = |name: &str| {
            self.file.tensor(name).map(|tensor| FoundTensor {
                shape: tensor.shape(),
                dtype: DType::from_ggml_id(tensor.tensor_type().id()).ok(),
                dtype_name: tensor.tensor_type().name().to_owned(),
            })
        };
        check_parameters(&self.path, &specs, &DType::ALL, name_in_file, found)?;
        let names = self.file.tensors().iter().map(TensorInfo::name);
        check_no_extra(&self.path, &specs, name_in_file, names, |name| self.is_inert(name))
    }

    /// Rotary factors that are all one change nothing; others are not implemented.
    fn is_inert(&self, name: &str) -> Result<bool, CheckpointError> {
        if name != ROPE_FACTORS {
            return Ok(false);
        }
        let tensor = self.file.require_tensor(name)?;
        let mut factors = vec![0.0; tensor.shape().iter().product()];
        let dtype = DType::from_ggml_id(tensor.tensor_type().id()).ok();
        let is_read = dtype
            .is_some_and(|dtype| dequantize_row(dtype, self.file.tensor_bytes(tensor), &mut factors).is_ok());
        if is_read && factors.iter().all(|factor| *factor == 1.0) {
            return Ok(true);
        }
        let place = format!("tensor `{name}`");
        let expected = "rotary frequency factors of 1 (frequency scaling is not implemented)";
        Err(CheckpointError::damaged(&self.path, place, expected, "others"))
    }

    /// The container, for its metadata and vocabulary.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration that the metadata describes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Bytes of the weights as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.file.tensors().iter().map(TensorInfo::byte_len).sum()
    }

    /// The chat template of the file, if it has one.
    ///
    /// # Errors
    /// If the key holds no string.
    pub fn chat_template(&self) -> Result<Option<String>, CheckpointError> {
        Ok(self.file.str("tokenizer.chat_template")?.map(str::to_owned))
    }
}

impl GgufModel {
    /// A tensor as it lies in the file.
    fn stored(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let name = name_in_file(spec);
        let tensor = self.file.require_tensor(&name)?;
        if tensor.shape() != spec.shape {
            let (path, expected, found) = (self.path.clone(), spec.shape.clone(), tensor.shape());
            return Err(CheckpointError::WrongShape { path, name, expected, found }.into());
        }
        let dtype = DType::from_ggml_id(tensor.tensor_type().id())?;
        Ok(TensorData { dtype, bytes: Cow::Borrowed(self.file.tensor_bytes(tensor)) })
    }

    fn tensors(&self, specs: &[&ParamSpec]) -> Vec<&TensorInfo> {
        specs.iter().filter_map(|spec| self.file.tensor(&name_in_file(spec))).collect()
    }
}

fn name_in_file(spec: &ParamSpec) -> String {
    // Every name of the configuration is in the table, which a test asserts.
    gguf_name(&spec.name).unwrap_or_else(|| spec.name.clone())
}

impl TensorSource for GgufModel {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let data = self.stored(spec)?;
        Ok(match (RotaryRows::of(&self.config, &spec.name), data.bytes) {
            (Some(rotary), bytes) => TensorData { bytes: Cow::Owned(rotary.split_halves(&bytes)), ..data },
            (None, bytes) => TensorData { bytes, ..data },
        })
    }

    fn matrix(&self, spec: &ParamSpec) -> Result<MatrixData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let head_rows = RotaryRows::of(&self.config, &spec.name).map(|rotary| rotary.head_dim);
        Ok(MatrixData { data: self.stored(spec)?, head_rows })
    }

    fn will_need(&self, specs: &[&ParamSpec]) {
        self.file.will_need(self.tensors(specs));
    }

    fn release(&self, specs: &[&ParamSpec]) {
        self.file.release(self.tensors(specs));
    }
}
