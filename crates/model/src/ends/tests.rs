//! Gradients of every end against finite differences of its own loss, computed forward.

use std::sync::Arc;

use shakti_kernels::{Cpu, KernelSet, Precision};

use super::*;
use crate::loss::TrainPass;
use crate::params::{Layout, Parameters};
use crate::{Heads, ModelConfig, preset};

const TOKENS: [u32; 12] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];
const TARGETS: [u32; 12] = [1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 7];
/// Two documents; some rows have no target.
const WEIGHTS: [f32; 12] = [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.5, 1.0, 1.0, 1.0];

fn config(tied: bool) -> ModelConfig {
    let mut config = preset("shakti-nano").expect("a preset");
    (config.hidden_size, config.intermediate_size, config.vocab_size) = (16, 24, 11);
    (config.num_hidden_layers, config.num_attention_heads, config.head_dim) = (2, 2, 8);
    config.num_kv_heads = vec![2, 1];
    config.layer_types.truncate(2);
    (config.eos_token_ids, config.bos_token_id, config.pad_token_id) = (Vec::new(), None, None);
    (config.tie_word_embeddings, config.heads, config.initializer_range) = (tied, Heads::Both, 0.4);
    config
}

/// A model, and the gradients that an end gives it.
struct Case {
    decoder: Decoder,
    params: Parameters,
    cpu: Cpu,
}

impl Case {
    fn new(tied: bool) -> Self {
        let config = config(tied);
        let layout = Arc::new(Layout::new(&config));
        let mut params = Parameters::init(&config, layout, 7);
        let score: Vec<f32> = (0..16).map(|i| (i as f32 * 0.7).sin()).collect();
        params.set("score.weight", &score).expect("the score head");
        let cpu = Cpu::new(KernelSet::best().expect("a kernel set"), 2);
        Self { decoder: Decoder::new(config).expect("a decoder"), params, cpu }
    }

    fn compute(&self) -> Compute<'_> {
        Compute { cpu: &self.cpu, precision: Precision::F32 }
    }

    fn gradients(&self, end: End<'_>) -> Parameters {
        let mut grads = Parameters::zeros(self.params.layout().clone());
        let pass = TrainPass { grad_scale: 0.5, dropout_seed: 0, recompute: false };
        let mut ignore = |_: usize, _: &Parameters| {};
        let ended: (_, crate::LayerFinished<'_>) = (&mut grads, &mut ignore);
        self.decoder
            .loss_and_gradients(self.compute(), &self.params, (batch(), end), pass, ended)
            .expect("gradients");
        grads
    }

    /// Compares with `loss` at some elements of every parameter.
    fn check(&self, grads: &Parameters, loss: &dyn Fn(&Parameters) -> f64) {
        let step = 1e-2;
        for (index, spec) in self.params.layout().specs().iter().enumerate() {
            let range = self.params.layout().range(index);
            for place in range.clone().step_by((range.len() / 3).max(1)) {
                let at = |shift: f32| {
                    let mut params = self.params.clone();
                    params.data[place] += shift;
                    loss(&params)
                };
                let expected = 0.5 * (at(step) - at(-step)) / f64::from(2.0 * step);
                let found = f64::from(grads.data[place]);
                let close = (found - expected).abs() < 2e-3 + 1e-2 * expected.abs();
                assert!(
                    close,
                    "{}[{}]: {found}, finite difference {expected}",
                    spec.name,
                    place - range.start
                );
            }
        }
    }
}

fn batch() -> Batch<'static> {
    Batch { tokens: &TOKENS, rows: &[0..7, 7..12] }
}

fn targets() -> Targets<'static> {
    Targets { targets: &TARGETS, weights: &WEIGHTS }
}

#[test]
fn an_objective_gets_the_gradients_of_what_it_computes() {
    for tied in [true, false] {
        let case = Case::new(tied);
        // Something that neither sums over rows nor is linear, of both outputs.
        let loss = |outputs: &Outputs| {
            let sum: f64 = outputs.log_probs.iter().map(|x| f64::from(*x)).sum();
            let values: f64 = outputs.values.iter().map(|x| f64::from(*x).powi(2)).sum();
            (0.3 * sum).sin() + 0.1 * values
        };
        let mut objective = |outputs: &Outputs| {
            let sum: f32 = outputs.log_probs.iter().sum();
            let log_probs = vec![0.3 * (0.3 * sum).cos(); outputs.log_probs.len()];
            OutputGradients { log_probs, values: outputs.values.iter().map(|x| 0.2 * x).collect() }
        };
        let grads = case.gradients(End::Objective(targets(), &mut objective));
        case.check(&grads, &|params| {
            let weights = Weights::dense(params);
            loss(&case.decoder.outputs(case.compute(), &weights, batch(), targets()).expect("outputs"))
        });
    }
}

#[test]
fn outputs_are_the_log_probabilities_that_the_loss_sums() {
    let case = Case::new(true);
    let weights = Weights::dense(&case.params);
    let outputs = case.decoder.outputs(case.compute(), &weights, batch(), targets()).expect("outputs");
    let loss = case.decoder.loss(case.compute(), &weights, batch(), targets()).expect("a loss");
    let sum: f64 = outputs.log_probs.iter().zip(WEIGHTS).map(|(p, w)| f64::from(p * w)).sum();
    assert!((sum + loss.nats).abs() < 1e-5, "{sum} and {}", loss.nats);
    assert_eq!((outputs.log_probs[0], outputs.values.len()), (0.0, 12));
}

#[test]
fn a_teacher_gives_the_gradients_of_its_divergence() {
    // A teacher: the same model with other weights. Row 4's true token is among its three likeliest or not as it comes.
    let case = Case::new(false);
    let mut other = case.params.clone();
    other.data.iter_mut().for_each(|value| *value *= 0.6);
    let weights = Weights::dense(&other);
    let all = Targets { weights: &[1.0; 12], ..targets() };
    let (ids, log_probs) =
        case.decoder.likeliest(case.compute(), &weights, (batch(), all), 3).expect("the likeliest");
    assert!(log_probs.chunks_exact(3).all(|row| row.is_sorted_by(|a, b| a >= b)));
    for direction in [Direction::Forward, Direction::Reverse] {
        for hard_share in [0.0, 0.3] {
            let teacher =
                Teacher { targets: targets(), ids: &ids, log_probs: &log_probs, direction, hard_share };
            let grads = case.gradients(End::Teacher(teacher));
            let loss = |params: &Parameters| {
                let weights = Weights::dense(params);
                case.decoder.teacher_loss(case.compute(), &weights, batch(), teacher).expect("a loss").nats
            };
            case.check(&grads, &loss);
            if hard_share == 0.0 {
                assert!(
                    loss(&other).abs() < 1e-5,
                    "{direction:?}: no divergence from itself, {}",
                    loss(&other)
                );
                assert!(loss(&case.params) > 0.1, "{direction:?}");
            }
        }
    }
}

#[test]
fn a_teacher_that_does_not_fit_is_refused() {
    let case = Case::new(true);
    let refused = |ids: &[u32], log_probs: &[f32]| {
        let teacher =
            Teacher { targets: targets(), ids, log_probs, direction: Direction::Forward, hard_share: 0.0 };
        let weights = Weights::dense(&case.params);
        let error =
            case.decoder.teacher_loss(case.compute(), &weights, batch(), teacher).expect_err("refused");
        error.to_string()
    };
    assert!(refused(&[0; 13], &[0.0; 13]).contains("teacher.ids"));
    assert!(refused(&[0; 12], &[0.0; 11]).contains("teacher.log_probs"));
    assert!(refused(&[11; 12], &[0.0; 12]).contains("11"));
}

/// The divergence of single rows against PyTorch (`reference/make_objective_goldens.py`).
#[test]
fn divergences_and_their_gradients_are_those_of_pytorch() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/objectives/distillation.json");
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON");
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
    };
    for (name, direction) in [("forward", Direction::Forward), ("reverse", Direction::Reverse)] {
        for row in 0..3 {
            let logits = numbers(&golden["logits"][row]);
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let mut values: Vec<f32> = logits.iter().map(|logit| (logit.exp() / sum) as f32).collect();
            let nats = -values[0].ln();
            values[0] -= 1.0;
            let ids: Vec<u32> = numbers(&golden["ids"][row]).iter().map(|id| *id as u32).collect();
            let log_probs: Vec<f32> = numbers(&golden["log_q"][row]).iter().map(|log| *log as f32).collect();
            let targets = Targets { targets: &[0], weights: &[1.0] };
            let teacher = Teacher { targets, ids: &ids, log_probs: &log_probs, direction, hard_share: 0.0 };
            let loss = teacher.row_gradient(0, &mut values, (0, nats));
            let expected = golden[name]["loss"][row].as_f64().expect("a number");
            assert!(
                (f64::from(loss) - expected).abs() < 1e-5 * (1.0 + expected),
                "{name} {row}: {loss}, {expected}"
            );
            for (found, expected) in values.iter().zip(numbers(&golden[name]["gradient"][row])) {
                assert!(
                    (f64::from(*found) - expected).abs() < 2e-6 * (1.0 + expected.abs()),
                    "{name} {row}: {found}, {expected}"
                );
            }
        }
    }
}
