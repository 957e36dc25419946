//! llama.cpp's GGUF adapter: `general.type = adapter`, `adapter.type = lora`, and for each adapted matrix `NAME.lora_a`
//! `[r, in]` and `NAME.lora_b` `[out, r]`, the rows of queries and keys interleaved as in model files.

use std::borrow::Cow;
use std::path::Path;

use shakti_gguf::{GgufErrorKind, GgufFile, GgufWriter, TensorInfo};
use shakti_kernels::blocks::DType;
use shakti_model::{Adapter, LORA_TARGETS, LoraConfig, ModelConfig, ParamSpec};

use super::{StoredPart, assemble};
use crate::CheckpointError;
use crate::files::Overwrite;
use crate::gguf::tensor_type;
use crate::names::{RotaryRows, gguf_name, hf_name};

const ALPHA_KEY: &str = "adapter.lora.alpha";

/// The architecture that a model of this configuration has in GGUF.
fn architecture(model: &ModelConfig) -> &'static str {
    if model.has_uniform_kv_heads() { "llama" } else { "deci" }
}

/// `model.layers.0.self_attn.q_proj.lora_B.weight` as the name of the matrix and of the part in GGUF.
fn part_name(spec: &ParamSpec) -> Option<(String, String)> {
    let (stem, part) = [(".lora_A.weight", "lora_a"), (".lora_B.weight", "lora_b")]
        .into_iter()
        .find_map(|(end, part)| spec.name.strip_suffix(end).map(|stem| (stem, part)))?;
    let matrix = format!("{stem}.weight");
    let name = gguf_name(&matrix)?;
    Some((matrix, format!("{name}.{part}")))
}

/// Reads a file.
pub(super) fn read(path: &Path, model: &ModelConfig) -> Result<Adapter, CheckpointError> {
    let file = GgufFile::open(path)?;
    let demand = |key: &str, expected: &str| match file.str(key)? {
        Some(found) if found == expected => Ok(()),
        found => Err(CheckpointError::metadata(path, key, expected, found.unwrap_or("nothing"))),
    };
    demand("general.type", "adapter")?;
    demand("adapter.type", "lora")?;
    demand("general.architecture", architecture(model))?;
    let lora = LoraConfig {
        rank: rank(&file, path)?,
        alpha: file.require_f64(ALPHA_KEY)? as f32,
        dropout: 0.0,
        targets: targets(&file, path)?,
        rslora: false,
        dora: false,
    };
    lora.validate().map_err(|source| CheckpointError::Config { path: path.to_path_buf(), source })?;
    let adapter = assemble(path, model, lora, |spec| {
        // Every adapted matrix has a name in GGUF.
        let (matrix, name) = part_name(spec).unwrap_or_default();
        let part = file.tensor(&name).map(|tensor| stored(&file, tensor, (model, &matrix)));
        (name, part)
    })?;
    let specs = adapter.params().layout().specs();
    let names: Vec<String> = specs.iter().filter_map(|spec| Some(part_name(spec)?.1)).collect();
    match file.tensors().iter().find(|tensor| !names.iter().any(|name| name == tensor.name())) {
        Some(tensor) => {
            let (path, name) = (path.to_path_buf(), tensor.name().to_owned());
            Err(CheckpointError::ExtraTensor { path, name })
        }
        None => Ok(adapter),
    }
}

fn stored<'a>(
    file: &'a GgufFile,
    tensor: &TensorInfo,
    (model, matrix): (&ModelConfig, &str),
) -> StoredPart<'a> {
    let (shape, bytes) = (tensor.shape(), file.tensor_bytes(tensor));
    let rotary = RotaryRows::of(model, matrix).filter(|rotary| {
        tensor.name().ends_with("lora_b") && shape.first() == Some(&(rotary.heads * rotary.head_dim))
    });
    StoredPart {
        shape,
        dtype: DType::from_ggml_id(tensor.tensor_type().id()).ok(),
        dtype_name: tensor.tensor_type().name().to_owned(),
        bytes: rotary.map_or(Cow::Borrowed(bytes), |rotary| Cow::Owned(rotary.split_halves(bytes))),
    }
}

/// The rank, from the first matrix.
fn rank(file: &GgufFile, path: &Path) -> Result<usize, CheckpointError> {
    let of = |tensor: &TensorInfo| match (tensor.name().ends_with(".lora_a"), &tensor.shape()[..]) {
        (true, &[rank, _]) => Some(rank),
        _ => None,
    };
    let none = || CheckpointError::damaged(path, "tensors", "one that ends in `.lora_a`", "none");
    file.tensors().iter().find_map(of).ok_or_else(none)
}

/// The adapted modules, in the order of [`LORA_TARGETS`].
fn targets(file: &GgufFile, path: &Path) -> Result<Vec<String>, CheckpointError> {
    let mut found = Vec::new();
    for tensor in file.tensors() {
        let module = [".lora_a", ".lora_b"].iter().find_map(|end| {
            let name = hf_name(tensor.name().strip_suffix(end)?)?;
            let module = name.strip_suffix(".weight")?.rsplit_once('.')?.1;
            LORA_TARGETS.into_iter().find(|target| *target == module)
        });
        found.push(module.ok_or_else(|| CheckpointError::ExtraTensor {
            path: path.to_path_buf(),
            name: tensor.name().to_owned(),
        })?);
    }
    let chosen = LORA_TARGETS.into_iter().filter(|target| found.contains(target));
    Ok(chosen.map(str::to_owned).collect())
}

/// Writes a GGUF adapter for llama.cpp; it appears whole under its name or not at all. Its alpha is `s r`, so the scale of
/// rsLoRA comes along.
///
/// # Errors
/// DoRA, for which the format has no words; the output exists; the system's refusal.
pub fn write_adapter_gguf(
    path: &Path,
    overwrite: Overwrite,
    adapter: &Adapter,
    model: &ModelConfig,
) -> Result<(), CheckpointError> {
    let inexpressible =
        |reason: &str| CheckpointError::NotExpressible { format: "gguf", reason: reason.into() };
    if adapter.config().dora {
        return Err(inexpressible("an adapter file has no magnitudes (DoRA); merge it into the model"));
    }
    let mut writer = GgufWriter::new();
    writer.put("general.architecture", architecture(model))?;
    writer.put("general.type", "adapter")?;
    writer.put("adapter.type", "lora")?;
    writer.put(ALPHA_KEY, adapter.config().scale() * adapter.config().rank as f32)?;
    let ggml = tensor_type(DType::F32).ok_or_else(|| inexpressible("no tensor type for F32"))?;
    let params = adapter.params();
    let specs = params.layout().specs();
    let names: Vec<(String, String)> = specs.iter().map(|spec| part_name(spec).unwrap_or_default()).collect();
    for (spec, (_, name)) in specs.iter().zip(&names) {
        let dims: Vec<u64> = spec.shape.iter().rev().map(|&d| d as u64).collect();
        writer.add_tensor(name, &dims, ggml)?;
    }
    let mut file = writer.create(path, overwrite).map_err(|error| match error.kind() {
        GgufErrorKind::AlreadyExists => CheckpointError::AlreadyExists { path: path.to_path_buf() },
        _ => error.into(),
    })?;
    for (index, (matrix, name)) in names.iter().enumerate() {
        let bytes: Vec<u8> = params.slice(index).iter().flat_map(|value| value.to_le_bytes()).collect();
        match RotaryRows::of(model, matrix).filter(|_| name.ends_with("lora_b")) {
            Some(rotary) => file.write_tensor(name, &rotary.interleave(&bytes))?,
            None => file.write_tensor(name, &bytes)?,
        }
    }
    Ok(file.finish().map(|_| ())?)
}
