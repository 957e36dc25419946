//! PEFT's adapter folder: `adapter_config.json` and `adapter_model.safetensors`.

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Map, Value, json};
use shakti_model::{Adapter, LORA_TARGETS, LoraConfig, ModelConfig};

use super::{StoredPart, assemble};
use crate::CheckpointError;
use crate::files::{Overwrite, read_text, write_file};
use crate::folder::AtomicFolder;
use crate::safetensors::{PlannedTensor, SafetensorsFile, write_safetensors};

/// What the adapter is.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
/// Its matrices.
pub const ADAPTER_WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// What PEFT puts before the state dict's names.
const PREFIX: &str = "base_model.model.";

/// Keys that say where an adapter comes from or how it began, and those that are read below: the values of others may
/// change what it computes, so they have to be null, false or empty.
const KNOWN_KEYS: [&str; 25] = [
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "use_rslora",
    "use_dora",
    "bias",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "layers_pattern",
    "exclude_modules",
];

/// Reads a folder.
pub(super) fn read(folder: &Path, model: &ModelConfig) -> Result<Adapter, CheckpointError> {
    let config = folder.join(ADAPTER_CONFIG_FILE);
    let lora = read_config(&config)?;
    lora.validate().map_err(|source| CheckpointError::Config { path: config, source })?;
    let path = folder.join(ADAPTER_WEIGHTS_FILE);
    let file = SafetensorsFile::open(&path)?;
    let adapter = assemble(&path, model, lora, |spec| {
        let name = format!("{PREFIX}{}", spec.name);
        let part = file.tensor(&name).map(|tensor| StoredPart {
            shape: tensor.shape.clone(),
            dtype: tensor.dtype.parse().ok(),
            dtype_name: tensor.dtype.clone(),
            bytes: Cow::Borrowed(file.bytes(tensor)),
        });
        (name, part)
    })?;
    let layout = adapter.params().layout();
    let is_known = |name: &str| name.strip_prefix(PREFIX).is_some_and(|name| layout.index(name).is_some());
    match file.tensors().iter().find(|tensor| !is_known(&tensor.name)) {
        Some(tensor) => Err(CheckpointError::ExtraTensor { path, name: tensor.name.clone() }),
        None => Ok(adapter),
    }
}

fn read_config(path: &Path) -> Result<LoraConfig, CheckpointError> {
    let text = read_text(path)?;
    let keys: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|e| CheckpointError::damaged(path, "text", "a JSON object", e.to_string()))?;
    let wrong =
        |key: &str, expected: &str, found: &Value| CheckpointError::metadata(path, key, expected, found);
    let get = |key: &str| keys.get(key).unwrap_or(&Value::Null);
    if get("peft_type") != "LORA" {
        return Err(wrong("peft_type", "\"LORA\"", get("peft_type")));
    }
    if !is_inert(get("bias")) && get("bias") != "none" {
        return Err(wrong("bias", "\"none\"", get("bias")));
    }
    if !is_inert(get("exclude_modules")) {
        return Err(wrong("exclude_modules", "null", get("exclude_modules")));
    }
    let unknown = keys.iter().find(|(key, value)| !is_known(key) && !is_inert(value));
    if let Some((key, value)) = unknown {
        return Err(wrong(key, "null, false or nothing: it may change what the adapter computes", value));
    }
    let number = |key: &str| get(key).as_f64().ok_or_else(|| wrong(key, "a number", get(key)));
    let flag = |key: &str| match get(key) {
        Value::Null => Ok(false),
        value => value.as_bool().ok_or_else(|| wrong(key, "true or false", value)),
    };
    let rank = get("r").as_u64().and_then(|rank| usize::try_from(rank).ok());
    Ok(LoraConfig {
        rank: rank.ok_or_else(|| wrong("r", "a whole number", get("r")))?,
        alpha: number("lora_alpha")? as f32,
        dropout: if keys.contains_key("lora_dropout") { number("lora_dropout")? as f32 } else { 0.0 },
        targets: targets(get("target_modules"))
            .ok_or_else(|| wrong("target_modules", &expected_targets(), get("target_modules")))?,
        rslora: flag("use_rslora")?,
        dora: flag("use_dora")?,
    })
}

fn is_known(key: &str) -> bool {
    KNOWN_KEYS.contains(&key)
}

/// Whether a value asks for nothing. `megatron.core` and the like are among the known keys.
fn is_inert(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

fn expected_targets() -> String {
    format!("a list of {}, or \"all-linear\"", LORA_TARGETS.join(", "))
}

/// The adapted modules in the order of [`LORA_TARGETS`]; `None` if one of them is no linear layer of ours.
fn targets(value: &Value) -> Option<Vec<String>> {
    let names: Vec<&str> = match value {
        Value::String(all) if all == "all-linear" => LORA_TARGETS.to_vec(),
        Value::Array(names) => names.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let all_known = !names.is_empty() && names.iter().all(|name| LORA_TARGETS.contains(name));
    let chosen = LORA_TARGETS.iter().filter(|target| names.contains(target));
    all_known.then(|| chosen.map(|target| (*target).to_owned()).collect())
}

/// Writes the adapter into an existing empty folder; `base` is what PEFT will take for the name of the model.
///
/// # Errors
/// The system's refusal.
pub fn fill_adapter_folder(folder: &Path, adapter: &Adapter, base: &str) -> Result<(), CheckpointError> {
    let config = config_json(adapter.config(), base);
    write_file(&folder.join(ADAPTER_CONFIG_FILE), format!("{config:#}\n").as_bytes(), Overwrite::Refuse)?;
    let params = adapter.params();
    let planned: Vec<PlannedTensor> = params
        .layout()
        .specs()
        .iter()
        .map(|spec| PlannedTensor {
            name: format!("{PREFIX}{}", spec.name),
            dtype: "F32",
            shape: spec.shape.clone(),
            byte_len: 4 * spec.num_elements(),
        })
        .collect();
    let mut indices = 0..planned.len();
    write_safetensors(&folder.join(ADAPTER_WEIGHTS_FILE), Overwrite::Refuse, &planned, |_| {
        let values = indices.next().map_or(&[][..], |index| params.slice(index));
        Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into())
    })
}

/// The same as a folder that appears whole, with checksums, or not at all.
///
/// # Errors
/// As [`fill_adapter_folder`], and if there is something else under that name.
pub fn write_adapter_folder(
    path: &Path,
    overwrite: Overwrite,
    adapter: &Adapter,
    base: &str,
) -> Result<(), CheckpointError> {
    let folder = AtomicFolder::create(path, overwrite)?;
    fill_adapter_folder(folder.path(), adapter, base)?;
    folder.commit()
}

fn config_json(lora: &LoraConfig, base: &str) -> Value {
    // The shortest digits that are these f32; PEFT declares alpha as a whole number, and takes others.
    let number = |value: f32| match value.fract() == 0.0 && value.abs() < 1e9 {
        true => json!(value as i64),
        false => json!(value.to_string().parse::<f64>().unwrap_or(value.into())),
    };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": number(lora.alpha),
        "lora_dropout": number(lora.dropout),
        "target_modules": lora.targets,
        "use_rslora": lora.rslora,
        "use_dora": lora.dora,
    })
}
