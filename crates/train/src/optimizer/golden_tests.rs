//! Ten steps of every optimizer against PyTorch and numpy, on every kernel set; and the same bits for any number of threads.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use shakti_checkpoint::safetensors::SafetensorsFile;
use shakti_kernels::{Cpu, KernelSet, Moment8, Precision};
use shakti_model::ModelConfig;

use super::*;

const STEPS: u64 = 10;

fn config() -> ModelConfig {
    let json = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 70, "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true}"#;
    ModelConfig::from_json(json).expect("a configuration")
}

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `draw` of `make_optimizer_goldens.py` for every parameter: weights at step 0, gradients later.
fn draw(step: u64) -> Parameters {
    let mut params = Parameters::zeros(Arc::new(Layout::new(&config())));
    for tensor in 0..params.layout().specs().len() {
        for (index, value) in params.slice_mut(tensor).iter_mut().enumerate() {
            let hash = mix((step << 40) + ((tensor as u64) << 32) + index as u64);
            let unit = (hash >> 40) as f64 / f64::from(1 << 23) - 1.0;
            *value = (unit * 0.5f64.powi((hash % 8) as i32)) as f32;
        }
    }
    params
}

fn settings(kind: OptimizerKind) -> OptimizerSettings {
    OptimizerSettings { kind, clip_grad_norm: 0.0, ..OptimizerSettings::default() }
}

/// Weights and optimizer after ten steps.
fn ten_steps(compute: Compute<'_>, kind: OptimizerKind) -> (Parameters, Optimizer) {
    let mut params = draw(0);
    let mut optimizer = Optimizer::new(&params, settings(kind));
    for step in 1..=STEPS {
        optimizer.update(compute, &mut params, &draw(step), (1e-3, None)).expect("a step");
    }
    (params, optimizer)
}

fn golden(name: &str) -> SafetensorsFile {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "golden", "optimizers", name].iter().collect();
    SafetensorsFile::open(&path).expect("a golden file")
}

fn bytes<'a>(file: &'a SafetensorsFile, name: &str) -> &'a [u8] {
    file.bytes(file.tensor(name).unwrap_or_else(|| panic!("tensor `{name}`")))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Every weight within 1e-5 of the tensor's largest, and every change since step 0 within `change` of the largest change.
fn assert_weights(what: &str, found: &Parameters, file: &SafetensorsFile, change: f32) {
    let start = draw(0);
    for (index, spec) in found.layout().specs().iter().enumerate() {
        let (found, start) = (found.slice(index), start.slice(index));
        let expected = floats(bytes(file, &spec.name));
        let error = largest(found.iter().zip(&expected).map(|(a, b)| a - b));
        let (weight, changed) =
            (largest(expected.iter().copied()), largest(expected.iter().zip(start).map(|(a, b)| a - b)));
        assert!(error <= 1e-5 * weight, "{what}: `{}` is {error} off of {weight}", spec.name);
        assert!(error <= change * changed, "{what}: `{}` is {error} off of a change by {changed}", spec.name);
    }
}

#[test]
fn adamw_and_muon_are_those_of_pytorch() {
    for (kind, file) in [(OptimizerKind::AdamW, "adamw"), (OptimizerKind::Muon, "muon")] {
        let file_name = format!("{file}.safetensors");
        for kernels in KernelSet::available() {
            let cpu = Cpu::new(kernels, 2);
            let compute = Compute { cpu: &cpu, precision: Precision::F32 };
            let (params, _) = ten_steps(compute, kind);
            assert_weights(&format!("{file}, {}", kernels.name()), &params, &golden(&file_name), 2e-4);
        }
    }
}

/// `torch.optim.Muon`, whose products are bf16, lies up to 0.9% of a change from itself with f32; `settings.json` says so.
#[test]
fn muon_with_rounded_products_is_as_near_as_bf16_is() {
    let cpu = Cpu::new(KernelSet::best().expect("a kernel set"), 2);
    for (precision, change) in [(Precision::Bf16, 4e-2), (Precision::Int16, 4e-3)] {
        let compute = Compute { cpu: &cpu, precision };
        let (params, _) = ten_steps(compute, OptimizerKind::Muon);
        let start = draw(0);
        let file = golden("muon.safetensors");
        for (index, spec) in params.layout().specs().iter().enumerate() {
            let expected = floats(bytes(&file, &spec.name));
            let error = largest(params.slice(index).iter().zip(&expected).map(|(a, b)| a - b));
            let changed = largest(expected.iter().zip(start.slice(index)).map(|(a, b)| a - b));
            assert!(error <= change * changed, "{precision:?}: `{}` {error} of {changed}", spec.name);
        }
    }
}

#[test]
fn moments_in_8_bits_are_those_of_the_reference_to_a_step() {
    let file = golden("adamw8.safetensors");
    for (name, signed) in [("signed", true), ("unsigned", false)] {
        let expected = floats(bytes(&file, name));
        for (found, expected) in Moment8::code_values(signed).iter().zip(&expected) {
            assert!(
                (found - expected).abs() <= 1e-7 * expected.abs(),
                "{name}: {found}, expected {expected}"
            );
        }
    }
    let cpu = Cpu::new(KernelSet::best().expect("a kernel set"), 2);
    let compute = Compute { cpu: &cpu, precision: Precision::F32 };
    let (params, optimizer) = ten_steps(compute, OptimizerKind::AdamW8);
    let specs = config().parameters();
    let (mut codes, mut apart) = (0, 0);
    for tensor in optimizer.tensors(&specs).filter(|tensor| file.tensor(&tensor.name).is_some()) {
        let expected = bytes(&file, &tensor.name);
        match tensor.values {
            state::StateValues::U8(found) => {
                let differing = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
                assert!(differing.clone().all(|steps| steps <= 1), "`{}`", tensor.name);
                codes += found.len();
                apart += differing.filter(|steps| *steps == 1).count();
            }
            state::StateValues::F32(found) => {
                for (found, expected) in found.iter().zip(floats(expected)) {
                    assert!(
                        (found - expected).abs() <= 1e-2 * expected,
                        "`{}`: {found} {expected}",
                        tensor.name
                    );
                }
            }
        }
    }
    assert!(codes > 50_000 && apart * 1000 <= codes, "{apart} of {codes} codes differ");
    // A moment that is one step apart moves a weight by a part of a step's change.
    assert_weights("adamw8", &params, &file, 2e-2);
}

#[test]
fn moments_in_8_bits_come_near_those_in_32() {
    let cpu = Cpu::new(KernelSet::best().expect("a kernel set"), 1);
    let compute = Compute { cpu: &cpu, precision: Precision::F32 };
    let (full, _) = ten_steps(compute, OptimizerKind::AdamW);
    let (small, _) = ten_steps(compute, OptimizerKind::AdamW8);
    let start = draw(0);
    let change = |params: &Parameters| -> Vec<f64> {
        params.data.iter().zip(start.data.iter()).map(|(a, b)| f64::from(a - b)).collect()
    };
    let (full, small) = (change(&full), change(&small));
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let error = norm(&mut full.iter().zip(&small).map(|(a, b)| a - b)) / norm(&mut full.iter().copied());
    assert!(error < 0.03, "{error}");
}

#[test]
fn states_take_the_bytes_that_are_announced() {
    let params = draw(0);
    let specs = params.layout().specs();
    let mut bytes = HashMap::new();
    for kind in [OptimizerKind::AdamW, OptimizerKind::AdamW8, OptimizerKind::Muon] {
        let optimizer = Optimizer::new(&params, settings(kind));
        let held: usize = optimizer.tensors(specs).map(|tensor| tensor.values.byte_len()).sum();
        assert_eq!(held, Optimizer::state_bytes(kind, specs), "{kind:?}");
        bytes.insert(kind.name(), held);
    }
    assert_eq!(bytes["adamw"], 8 * params.data.len());
    assert!(bytes["adamw8"] < bytes["adamw"] / 2 && bytes["muon"] < bytes["adamw"] * 2 / 3, "{bytes:?}");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for kind in [OptimizerKind::AdamW8, OptimizerKind::Muon] {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
            let run = |threads| {
                let cpu = Cpu::new(KernelSet::best().expect("a kernel set"), threads);
                let (params, optimizer) = ten_steps(Compute { cpu: &cpu, precision }, kind);
                let specs = config().parameters();
                let states: Vec<Vec<u8>> =
                    optimizer.tensors(&specs).map(|tensor| tensor.values.bytes()).collect();
                (params.data.iter().map(|value| value.to_bits()).collect::<Vec<u32>>(), states)
            };
            let one = run(1);
            for threads in [2, 3, 5] {
                assert!(run(threads) == one, "{kind:?}, {precision:?}: {threads} threads differ from one");
            }
        }
    }
}
