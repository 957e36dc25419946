//! The function that a file holds: logits of files that others wrote, and of our GGUF of them, against recorded ones.
//!
//! Relative error: largest difference over largest logit. The recorded ones are float32 (Transformers) or float64
//! (dequantized weights); ours are f32 on the values that the file holds.

use std::path::Path;
use std::sync::Arc;

use shakti_checkpoint::safetensors::SafetensorsFile;
use shakti_checkpoint::{ExportTokenizer, GgufExport, ModelFile, Overwrite, PlainModel, load_parameters};
use shakti_gguf::{GgufFile, GgufWriter};
use shakti_kernels::blocks::DType;
use shakti_kernels::{Cpu, Precision};
use shakti_model::{Batch, CacheMode, Compute, Decoder, KvCache, Layout, ModelConfig, TensorSource, Weights};

use crate::common::golden;

/// Bound for float32 against another implementation.
const TOLERANCE: f32 = 1e-4;

/// Logits `[n, V]` of one sequence.
fn logits(config: &ModelConfig, source: &dyn TensorSource, ids: &[u32]) -> Vec<f32> {
    let cpu = Cpu::detect(Some(2)).expect("a CPU");
    let compute = Compute { cpu: &cpu, precision: Precision::F32 };
    let parameters = load_parameters(Arc::new(Layout::new(config)), source).expect("every tensor");
    let weights = Weights::dense(&parameters);
    let decoder = Decoder::new(config.clone()).expect("a valid configuration");
    let mut cache = KvCache::new(config, CacheMode::Bounded { max_seq_len: ids.len() }, ids.len());
    let rows = [0..ids.len()];
    let batch = Batch { tokens: ids, rows: &rows };
    let hidden = decoder.forward(compute, &weights, batch, &mut [&mut cache]).expect("tokens that fit");
    decoder.logits(compute, &weights, &hidden).to_vec()
}

/// Token ids and logits of a golden.
fn expected(path: &Path) -> (Vec<u32>, Vec<f32>) {
    let file = SafetensorsFile::open(path).expect("a golden");
    let bytes = |name: &str| file.bytes(file.tensor(name).expect(name)).as_chunks::<4>().0.to_vec();
    let ids = bytes("input_ids").into_iter().map(u32::from_le_bytes).collect();
    (ids, bytes("logits").into_iter().map(f32::from_le_bytes).collect())
}

#[track_caller]
fn assert_close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let difference = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    let relative = difference / largest;
    println!("{name}: relative error {relative:.2e}");
    assert!(relative < TOLERANCE, "{name}: {difference} of {largest}");
}

/// Exports to GGUF in f32 without a vocabulary and opens the file.
fn through_gguf(folder: &Path, model: &ModelFile) -> ModelFile {
    let nothing = GgufWriter::new().write_to(Vec::new()).and_then(|file| file.finish()).expect("memory");
    let nothing = GgufFile::from_bytes(nothing).expect("an empty file");
    let path = folder.join("model.gguf");
    let export = GgufExport {
        config: model.config(),
        name: "golden",
        file_type: 0,
        dtype: &|_| DType::F32,
        tokenizer: ExportTokenizer::CopyOf(&nothing),
        extra: &[],
    };
    export.write(&path, Overwrite::Replace, model).expect("writable");
    ModelFile::open(path).expect("our own file")
}

#[test]
fn folders_of_transformers_give_its_logits() {
    for name in ["tiny_llama", "tiny_llama_tied"] {
        let (ids, expected) = expected(&golden(name).join("expect.safetensors"));
        let model = ModelFile::open(golden(name)).expect("a golden");
        assert_close(name, &logits(model.config(), &model, &ids), &expected);
        let temporary = tempfile::tempdir().expect("a folder");
        let again = through_gguf(temporary.path(), &model);
        assert_close(&format!("{name} as GGUF"), &logits(again.config(), &again, &ids), &expected);
    }
}

#[test]
fn files_of_llama_cpp_give_the_logits_of_their_values() {
    for name in ["spm_q4_0", "bpe_q4_k_m"] {
        let (ids, expected) = expected(&golden("gguf").join(format!("{name}.expect.safetensors")));
        let model = ModelFile::open(golden("gguf").join(format!("{name}.gguf"))).expect("a golden");
        assert_close(name, &logits(model.config(), &model, &ids), &expected);
    }
}

#[test]
fn repeated_kv_heads_compute_the_same() {
    let model = ModelFile::open(golden("tiny_shakti")).expect("a golden");
    let plain = PlainModel::new(model.config(), &model).expect("RMSNorm");
    // Up to its window of 48 tokens.
    let ids: Vec<u32> = (0..48).map(|i| (i * 31 + 7) % 97).collect();
    let expected = logits(model.config(), &model, &ids);
    assert_close("repeated", &logits(plain.config(), &plain, &ids), &expected);
}
