//! `--adapter`, `shakti merge` and `shakti export --adapter`: what speaks alike, what merging costs, what is refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use shakti_checkpoint::{HfFolder, Overwrite, load_parameters, write_adapter_folder};
use shakti_kernels::Cpu;
use shakti_model::{Adapter, LORA_TARGETS, Layout, LoraConfig, Weights};

use crate::common::{arg, fixture, model, shakti};

/// An adapter of the small model that changes what it says.
pub fn adapter(dora: bool) -> PathBuf {
    static MADE: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    MADE[usize::from(dora)].get_or_init(|| write_adapter(dora)).clone()
}

fn write_adapter(dora: bool) -> PathBuf {
    let folder = HfFolder::open(model()).expect("the model");
    let base = load_parameters(Arc::new(Layout::new(folder.config())), &folder).expect("weights");
    let targets = LORA_TARGETS.map(str::to_owned).to_vec();
    let lora = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.0, targets, rslora: false, dora };
    let cpu = Cpu::detect(Some(1)).expect("a CPU");
    let weights = Weights::dense(&base);
    let mut adapter = Adapter::init(folder.config(), lora, 1, (&cpu, &weights)).expect("an adapter");
    for (index, value) in adapter.params_mut().data.iter_mut().enumerate() {
        *value += 0.2 * ((index * 37 % 101) as f32 / 50.0 - 1.0);
    }
    let path = fixture().join(format!("adapter-{dora}"));
    write_adapter_folder(&path, Overwrite::Refuse, &adapter, "model").expect("a folder");
    path
}

fn greedy(model: &Path, more: &[&str]) -> Value {
    let args = ["generate", "-m", arg(model), "-p", "Asthma is", "-n", "12", "--greedy", "--ignore-eos"];
    shakti(&[&args, more, &["--json"]].concat()).json()["ids"].clone()
}

#[test]
fn folder_gguf_adapter_and_merged_models_speak_alike() {
    let (model, folder) = (model(), adapter(false));
    let expected = greedy(&model, &["--adapter", arg(&folder)]);
    assert_ne!(expected, greedy(&model, &[]), "the adapter changes nothing");
    let gguf = fixture().join("adapter.gguf");
    shakti(&["export", arg(&model), arg(&gguf), "--to", "gguf", "--adapter", arg(&folder)]).ok();
    assert_eq!(greedy(&model, &["--adapter", arg(&gguf)]), expected);
    let back = fixture().join("adapter-back");
    shakti(&["export", arg(&model), arg(&back), "--to", "hf", "--adapter", arg(&gguf)]).ok();
    assert_eq!(greedy(&model, &["--adapter", arg(&back)]), expected);
    for out in ["merged", "merged.gguf"] {
        let out = fixture().join(out);
        let merge = ["merge", "-m", arg(&model), "--adapter", arg(&gguf), "-o", arg(&out)];
        let report = shakti(&[&merge[..], &["--json"]].concat()).json();
        assert_eq!(greedy(&out, &[]), expected, "{}", out.display());
        let divergence = report["kl_divergence"]["value"].as_f64().expect("a number");
        assert!(divergence.abs() < 1e-5, "{divergence}");
        let message = shakti(&merge).refused();
        assert!(message.contains("output exists") && message.contains("--force"), "{message}");
    }
}

#[test]
fn dora_merges_and_the_loss_of_requantizing_is_measured() {
    let (model, folder, text) = (model(), adapter(true), fixture().join("text.txt"));
    let expected = greedy(&model, &["--adapter", arg(&folder)]);
    let base = fixture().join("dora-base.gguf");
    shakti(&["quantize", arg(&model), arg(&base), "--type", "q8_0"]).ok();
    for (from, kind, most) in [(&model, "f32", 1e-5), (&base, "q8_0", 0.05), (&base, "q4_0", 1.0)] {
        let out = fixture().join(format!("dora-{kind}.gguf"));
        let merge = ["merge", "-m", arg(from), "--adapter", arg(&folder), "-o", arg(&out), "--type", kind];
        let report = shakti(&[&merge[..], &["--eval", arg(&text), "--json"]].concat()).json();
        let number = |name: &str, part: &str| report[name][part].as_f64().expect("a number");
        assert!(number("kl_divergence", "value") < most, "{kind}: {report}");
        assert_eq!(report["before"]["tokens"], report["after"]["tokens"]);
        if kind == "f32" {
            assert_eq!(greedy(&out, &[]), expected);
        }
    }
    let refused = fixture().join("dora.gguf");
    let args = ["export", arg(&model), arg(&refused), "--to", "gguf", "--adapter", arg(&folder)];
    assert!(shakti(&args).refused().contains("no magnitudes (DoRA)"));
    assert!(!refused.exists());
}

#[test]
fn perplexity_and_chat_take_an_adapter_and_strangers_are_refused() {
    let (model, folder, text) = (model(), adapter(false), fixture().join("text.txt"));
    let loss = |more: &[&str]| {
        let args = ["perplexity", "-m", arg(&model), arg(&text), "--json"];
        shakti(&[&args, more].concat()).json()["loss"]["value"].as_f64().expect("a number")
    };
    assert_ne!(loss(&[]), loss(&["--adapter", arg(&folder)]));
    let stranger = crate::common::repository("golden/adapters/lora");
    for command in ["generate", "chat"] {
        let mut args = vec![command, "-m", arg(&model), "--adapter", arg(&stranger)];
        args.extend(["-p", "x"].iter().filter(|_| command == "generate"));
        let message = shakti(&args).refused();
        let parts = [
            "adapter_model.safetensors",
            "gate_proj.lora_B.weight",
            "expected shape [96, 4], found [112, 4]",
        ];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let nowhere = fixture().join("no-adapter");
    assert!(
        shakti(&["chat", "-m", arg(&model), "--adapter", arg(&nowhere)]).refused().contains("no-adapter")
    );
}
