//! Adapter files: PEFT's own, there and back in both formats, and what is refused.

use std::path::{Path, PathBuf};

use shakti_kernels::{Cpu, KernelSet};
use shakti_model::{Adapter, LayerType, LoraConfig, ModelConfig, ParamSpec, preset};

use super::*;
use crate::files::Overwrite;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}

fn tiny_llama() -> ModelConfig {
    crate::hf::read_config(&golden("tiny_llama")).unwrap()
}

fn same(a: &Adapter, b: &Adapter) -> bool {
    a.params().layout().specs() == b.params().layout().specs() && *a.params().data == *b.params().data
}

#[test]
fn peft_folders_are_read_and_written_back() {
    let model = tiny_llama();
    for (name, rank, modules) in [("lora", 4, 7), ("rslora", 3, 2), ("dora", 2, 7)] {
        let folder = golden("adapters").join(name);
        let adapter = read_adapter(&folder, &model).unwrap();
        let config = adapter.config();
        assert_eq!((config.rank, config.alpha, config.targets.len()), (rank, 2.0 * rank as f32, modules));
        assert_eq!((config.rslora, config.dora), (name == "rslora", name == "dora"));
        let out = tempfile::tempdir().unwrap();
        let copy = out.path().join("copy");
        write_adapter_folder(&copy, Overwrite::Refuse, &adapter, "tiny_llama").unwrap();
        let again = read_adapter(&copy, &model).unwrap();
        assert!(same(&adapter, &again) && again.config() == config, "{name}");
        write_adapter_folder(&copy, Overwrite::Replace, &adapter, "tiny_llama").unwrap();
        crate::verify_manifest(&copy).unwrap();
    }
}

#[test]
fn a_gguf_adapter_holds_interleaved_rows_and_the_whole_scale() {
    let model = tiny_llama();
    let out = tempfile::tempdir().unwrap();
    for name in ["lora", "rslora"] {
        let adapter = read_adapter(&golden("adapters").join(name), &model).unwrap();
        let path = out.path().join(format!("{name}.gguf"));
        write_adapter_gguf(&path, Overwrite::Refuse, &adapter, &model).unwrap();
        let again = read_adapter(&path, &model).unwrap();
        assert!(same(&adapter, &again), "{name}");
        let error = (again.config().scale() - adapter.config().scale()).abs();
        assert!(error < 1e-6 && !again.config().rslora, "{name}: {error}");
        let file = shakti_gguf::GgufFile::open(&path).unwrap();
        let tensor = file.require_tensor("blk.1.attn_q.weight.lora_b").unwrap();
        let b = adapter.params().get("model.layers.1.self_attn.q_proj.lora_B.weight").unwrap();
        // The second stored row is the first of the second half of a head of 16 rows.
        let rank = adapter.config().rank;
        let row = &file.tensor_bytes(tensor)[4 * rank..8 * rank];
        assert_eq!(
            row.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect::<Vec<_>>(),
            b[8 * rank..9 * rank]
        );
    }
    let dora = read_adapter(&golden("adapters/dora"), &model).unwrap();
    let error =
        write_adapter_gguf(&out.path().join("dora.gguf"), Overwrite::Refuse, &dora, &model).unwrap_err();
    assert!(error.to_string().contains("no magnitudes (DoRA)"), "{error}");
}

/// A copy of the LoRA golden with its configuration edited.
fn edited(edit: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) -> tempfile::TempDir {
    let out = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(golden("adapters/lora/adapter_config.json")).unwrap();
    let mut keys = serde_json::from_str(&text).unwrap();
    edit(&mut keys);
    std::fs::write(out.path().join(ADAPTER_CONFIG_FILE), serde_json::to_string(&keys).unwrap()).unwrap();
    std::fs::copy(golden("adapters/lora/adapter_model.safetensors"), out.path().join(ADAPTER_WEIGHTS_FILE))
        .unwrap();
    out
}

#[test]
fn what_does_not_fit_is_refused_with_file_place_expected_and_found() {
    let refused = |folder: &Path, model: &ModelConfig, parts: &[&str]| {
        let error = read_adapter(folder, model).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{error}: expected {part}"));
    };
    let model = tiny_llama();
    let key = |key: &'static str, value: serde_json::Value| {
        edited(move |keys| {
            keys.insert(key.into(), value.clone());
        })
    };
    let file = "adapter_config.json";
    refused(key("peft_type", "IA3".into()).path(), &model, &[file, "peft_type", "LORA", "IA3"]);
    refused(key("target_modules", vec!["c_attn"].into()).path(), &model, &[file, "target_modules", "c_attn"]);
    refused(
        key("rank_pattern", serde_json::json!({ "q_proj": 8 })).path(),
        &model,
        &[file, "rank_pattern", "q_proj"],
    );
    refused(key("use_something_new", true.into()).path(), &model, &[file, "use_something_new"]);
    refused(key("r", 0.into()).path(), &model, &[file, "rank", "0", "1 to 4096"]);
    let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    refused(key("r", 8.into()).path(), &model, &["adapter_model.safetensors", q, "[8, 64]", "[4, 64]"]);
    refused(key("use_dora", true.into()).path(), &model, &["lora_magnitude_vector", "is missing"]);
    let fewer = key("target_modules", vec!["q_proj"].into());
    refused(fewer.path(), &model, &["adapter_model.safetensors", "not part of the model"]);
    let mut other = model.clone();
    other.num_hidden_layers = 3;
    other.num_kv_heads.push(2);
    other.layer_types.push(LayerType::FullAttention);
    refused(
        &golden("adapters/lora"),
        &other,
        &["model.layers.2.self_attn.q_proj.lora_A.weight", "is missing"],
    );
}

#[test]
fn a_gguf_adapter_of_another_model_is_refused() {
    let model = tiny_llama();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("a.gguf");
    let adapter = read_adapter(&golden("adapters/lora"), &model).unwrap();
    write_adapter_gguf(&path, Overwrite::Refuse, &adapter, &model).unwrap();
    let mut wide = model.clone();
    wide.hidden_size = 128;
    let error = read_adapter(&path, &wide).unwrap_err().to_string();
    assert!(error.contains("blk.0.attn_q.weight.lora_a") && error.contains("[4, 128]"), "{error}");
    let mut uneven = model.clone();
    uneven.num_kv_heads = vec![2, 1];
    let error = read_adapter(&path, &uneven).unwrap_err().to_string();
    assert!(error.contains("general.architecture") && error.contains("deci"), "{error}");
    let error = read_adapter(&golden("gguf").join(first_gguf()), &model).unwrap_err().to_string();
    assert!(error.contains("general.type") && error.contains("adapter"), "{error}");
}

fn first_gguf() -> PathBuf {
    let files = std::fs::read_dir(golden("gguf")).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|end| end == "gguf")).unwrap()
}

#[test]
fn merged_tensors_are_the_base_plus_the_product() {
    let mut model = preset("shakti-nano").unwrap();
    (model.hidden_size, model.intermediate_size, model.vocab_size) = (8, 8, 16);
    (model.num_attention_heads, model.head_dim, model.num_hidden_layers) = (2, 4, 1);
    (model.num_kv_heads, model.layer_types) = (vec![2], vec![LayerType::FullAttention]);
    let base =
        shakti_model::Parameters::init(&model, std::sync::Arc::new(shakti_model::Layout::new(&model)), 1);
    let lora = LoraConfig {
        rank: 1,
        alpha: 3.0,
        dropout: 0.0,
        targets: vec!["q_proj".into()],
        rslora: false,
        dora: false,
    };
    let mut adapter = Adapter::zeros(&model, lora).unwrap();
    adapter.params_mut().data.fill(2.0);
    let cpu = Cpu::new(KernelSet::best().unwrap(), 1);
    let merged = Merged::new(&model, &base, &adapter, &cpu);
    let values = |name: &str| {
        let spec: ParamSpec = model.parameters().into_iter().find(|spec| spec.name == name).unwrap();
        (crate::tensor_f32(&merged, &spec).unwrap(), crate::tensor_f32(&base, &spec).unwrap())
    };
    let (q, before) = values("model.layers.0.self_attn.q_proj.weight");
    assert!(q.iter().zip(&before).all(|(q, before)| *q == before + 12.0));
    let (k, before) = values("model.layers.0.self_attn.k_proj.weight");
    assert_eq!(k, before);
}
