//! Adapters in files: the folder that PEFT writes and reads, and the GGUF file that llama.cpp takes with `--lora`.
//!
//! `docs/formats/adapter.md` describes both.

mod gguf;
mod merged;
mod peft;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::Path;

use shakti_kernels::blocks::{DType, dequantize_row};
use shakti_model::{Adapter, LoraConfig, ModelConfig, ParamSpec};

use crate::CheckpointError;

pub use gguf::write_adapter_gguf;
pub use merged::Merged;
pub use peft::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, fill_adapter_folder, write_adapter_folder};

/// Reads an adapter for a model of this configuration: a PEFT folder, or a file that must be GGUF. [`Adapter::refresh`]
/// must follow.
///
/// # Errors
/// Names the file, the key or tensor, what this model needs and what is there.
pub fn read_adapter(path: &Path, model: &ModelConfig) -> Result<Adapter, CheckpointError> {
    let metadata = path.metadata().map_err(|e| CheckpointError::io(path, "open the adapter", e))?;
    if metadata.is_dir() { peft::read(path, model) } else { gguf::read(path, model) }
}

/// A tensor of an adapter as it lies in a file.
struct StoredPart<'a> {
    shape: Vec<usize>,
    /// The type, if it can be computed with.
    dtype: Option<DType>,
    /// The type as the file names it.
    dtype_name: String,
    bytes: Cow<'a, [u8]>,
}

/// Makes an adapter of the tensors that `find` yields by name; nothing is allocated before all of them are there in their
/// shapes.
fn assemble<'a>(
    path: &Path,
    model: &ModelConfig,
    lora: LoraConfig,
    find: impl Fn(&ParamSpec) -> (String, Option<StoredPart<'a>>),
) -> Result<Adapter, CheckpointError> {
    let specs = lora.parameters(model);
    let path = path.to_path_buf();
    let mut parts = Vec::with_capacity(specs.len());
    for spec in &specs {
        let (name, part) = find(spec);
        let Some(part) = part else { return Err(CheckpointError::MissingTensor { path, name }) };
        if part.shape != spec.shape {
            let (expected, found) = (spec.shape.clone(), part.shape);
            return Err(CheckpointError::WrongShape { path, name, expected, found });
        }
        parts.push((name, part));
    }
    let mut adapter = Adapter::zeros(model, lora)
        .map_err(|source| CheckpointError::Config { path: path.clone(), source })?;
    for (index, (name, part)) in parts.into_iter().enumerate() {
        let values = adapter.params_mut().slice_mut(index);
        let read = part.dtype.is_some_and(|dtype| dequantize_row(dtype, &part.bytes, values).is_ok());
        if !read {
            let expected = "F32, F16, BF16 or whole blocks".into();
            return Err(CheckpointError::WrongDtype { path, name, expected, found: part.dtype_name });
        }
    }
    Ok(adapter)
}
