//! Ill gradients are refused by name; healthy ones clip and decay as they should.

use std::sync::Arc;

use shakti_kernels::{Cpu, KernelSet, Precision};
use shakti_model::ModelConfig;

use super::*;

const SETTINGS: OptimizerSettings = OptimizerSettings {
    kind: OptimizerKind::AdamW,
    muon: MuonSection { momentum: 0.95, iterations: 5 },
    betas: [0.9, 0.95],
    eps: 1e-8,
    weight_decay: 0.5,
    clip_grad_norm: 1.0,
    max_grad_norm_ratio: 100.0,
    dead_gradient_steps: 3,
};

/// One layer of width 4: small enough to check by hand.
pub(crate) fn config() -> ModelConfig {
    let json = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 16, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": true}"#;
    ModelConfig::from_json(json).expect("a configuration")
}

fn filled(value: f32) -> Parameters {
    let mut params = Parameters::zeros(Arc::new(Layout::new(&config())));
    params.data.fill(value);
    params
}

fn exact(cpu: &Cpu) -> Compute<'_> {
    Compute { cpu, precision: Precision::F32 }
}

fn cpu() -> Cpu {
    Cpu::new(KernelSet::best().expect("a kernel set"), 1)
}

#[test]
fn the_first_step_moves_by_the_learning_rate_and_decays_matrices_only() {
    let (cpu, mut params) = (cpu(), filled(2.0));
    let grads = filled(0.25);
    let mut optimizer = Optimizer::new(&params, SETTINGS);
    let norm = optimizer.update(exact(&cpu), &mut params, &grads, (0.01, None)).expect("a step");
    let expected = 0.25 * (params.data.len() as f64).sqrt();
    assert!((norm - expected).abs() < 1e-9, "{norm}, expected {expected}");
    // Step 1 of AdamW moves by the learning rate against the sign of the gradient, whatever its size.
    let matrix = params.get("model.layers.0.mlp.up_proj.weight").expect("a matrix")[0];
    let vector = params.get("model.norm.weight").expect("a vector")[0];
    assert!((matrix - (2.0 * (1.0 - 0.01 * 0.5) - 0.01)).abs() < 1e-6, "{matrix}");
    assert!((vector - 1.99).abs() < 1e-6, "{vector}");
    // The running means hold the clipped gradient.
    let clipped = 0.25 / (norm as f32 + 1e-6);
    let Some(State::Moments([m, _])) = &optimizer.states[0] else { panic!("moments in f32") };
    let mean = m[0];
    assert!((mean - 0.1 * clipped).abs() < 1e-8, "{mean}");
}

#[test]
fn a_gradient_that_is_not_finite_is_named() {
    let (cpu, mut params, mut grads) = (cpu(), filled(1.0), filled(0.1));
    let mut optimizer = Optimizer::new(&params, SETTINGS);
    let index = grads.layout().index("model.layers.0.self_attn.k_proj.weight").expect("a parameter");
    grads.slice_mut(index)[3] = f32::NEG_INFINITY;
    let error = optimizer.update(exact(&cpu), &mut params, &grads, (0.01, None)).expect_err("not finite");
    let message = error.to_string();
    assert_eq!(message, "step 1: the gradient of `model.layers.0.self_attn.k_proj.weight` holds -inf");
    assert!(params.data.iter().all(|value| *value == 1.0));
    assert_eq!(optimizer.steps(), 0);
}

#[test]
fn a_gradient_that_stays_zero_is_named_after_so_many_steps() {
    let (cpu, mut params, mut grads) = (cpu(), filled(1.0), filled(0.1));
    let mut optimizer = Optimizer::new(&params, SETTINGS);
    let name = "model.layers.0.mlp.down_proj.weight";
    let index = grads.layout().index(name).expect("a parameter");
    let mut step = |value: f32| {
        grads.slice_mut(index).fill(value);
        optimizer.update(exact(&cpu), &mut params, &grads, (0.01, None))
    };
    step(0.0).expect("once");
    step(0.0).expect("twice");
    step(0.1).expect("alive again");
    step(0.0).expect("once");
    step(0.0).expect("twice");
    let error = step(0.0).expect_err("dead");
    let TrainError::DeadGradient { step: 6, tensor, steps: 3 } = &error else { panic!("{error}") };
    assert_eq!(tensor, name);
}

#[test]
fn a_gradient_far_above_its_mean_stops_the_run() {
    let (cpu, mut params) = (cpu(), filled(1.0));
    let mut optimizer = Optimizer::new(&params, SETTINGS);
    let (usual, mut wild) = (filled(0.1), filled(0.1));
    // The first steps settle: a large one is clipped, not refused.
    optimizer.update(exact(&cpu), &mut params, &filled(1e-6), (1e-4, None)).expect("the first");
    (0..SETTLING_STEPS).for_each(|_| {
        optimizer.update(exact(&cpu), &mut params, &usual, (1e-4, None)).expect("a step");
    });
    let index = wild.layout().index("model.norm.weight").expect("a parameter");
    wild.slice_mut(index).fill(200.0);
    let error = optimizer.update(exact(&cpu), &mut params, &wild, (1e-4, None)).expect_err("exploding");
    let TrainError::ExplodingGradient { step: 22, norm, tensor, tensor_norm, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(tensor, "model.norm.weight");
    assert!((tensor_norm - 400.0).abs() < 1e-6 && *norm > 400.0);
    let off = OptimizerSettings { max_grad_norm_ratio: 0.0, ..SETTINGS };
    optimizer.settings = off;
    optimizer.update(exact(&cpu), &mut params, &wild, (1e-4, None)).expect("not looked at");
}
