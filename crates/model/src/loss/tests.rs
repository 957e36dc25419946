//! The loss in chunks against the plain definition, which holds all logits at once.

use std::sync::Arc;

use shakti_kernels::{Cpu, KernelSet, Precision};

use super::*;
use crate::params::Layout;
use crate::preset;

/// More than two chunks, the last one short.
const ROWS: usize = 2 * CHUNK_ROWS + 77;
const WIDTH: usize = 24;
const VOCABULARY: usize = 101;

/// What the plain definition gives, in f64.
struct Plain {
    nats: f64,
    dhidden: Vec<f64>,
    dhead: Vec<f64>,
}

/// `logits = hidden W^T`, whole; `nats = log sum exp - logit of the target`; gradients of `scale * sum(weight * nats)`.
fn plain(hidden: &[f32], head: &[f32], targets: Targets<'_>, scale: f64) -> Plain {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let logits: Vec<Vec<f64>> = hidden
        .chunks_exact(WIDTH)
        .map(|row| head.chunks_exact(WIDTH).map(|token| dot(row, token)).collect())
        .collect();
    let (mut nats, mut dhidden, mut dhead) = (0.0, vec![0.0; hidden.len()], vec![0.0; head.len()]);
    for (row, logits) in logits.iter().enumerate() {
        let weight = f64::from(targets.weights[row]);
        if weight == 0.0 {
            continue;
        }
        let (sum, target) = (logits.iter().map(|x| x.exp()).sum::<f64>(), targets.targets[row] as usize);
        nats += weight * (sum.ln() - logits[target]);
        for (token, logit) in logits.iter().enumerate() {
            let d = scale * weight * (logit.exp() / sum - f64::from(u8::from(token == target)));
            for i in 0..WIDTH {
                dhidden[row * WIDTH + i] += d * f64::from(head[token * WIDTH + i]);
                dhead[token * WIDTH + i] += d * f64::from(hidden[row * WIDTH + i]);
            }
        }
    }
    Plain { nats, dhidden, dhead }
}

/// Norm of the difference over the norm of the definition.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    let difference: f64 = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).powi(2)).sum();
    (difference / expected.iter().map(|e| e * e).sum::<f64>()).sqrt()
}

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    (0..len as u64)
        .map(|i| (crate::rng::mix(i ^ (seed << 32)) >> 40) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

#[test]
fn chunks_give_the_loss_and_gradients_of_whole_logits() {
    let mut config = preset("shakti-nano").expect("a preset");
    (config.hidden_size, config.vocab_size, config.tie_word_embeddings) = (WIDTH, VOCABULARY, false);
    let decoder = Decoder::new(config.clone()).expect("a valid configuration");
    let layout = Arc::new(Layout::new(&config));
    let mut params = Parameters::zeros(layout.clone());
    let head = numbers(WIDTH * VOCABULARY, 1);
    params.set("lm_head.weight", &head).expect("the head");
    let hidden = numbers(ROWS * WIDTH, 2);
    let ids: Vec<u32> =
        (0..ROWS as u64).map(|row| (crate::rng::mix(row) % VOCABULARY as u64) as u32).collect();
    let weights: Vec<f32> = (0..ROWS).map(|row| [1.0, 0.5, 0.0, 2.0][row % 4]).collect();
    let targets = Targets { targets: &ids, weights: &weights };
    let expected = plain(&hidden, &head, targets, 0.25);
    for set in KernelSet::available() {
        for (precision, limit) in [(Precision::F32, 1e-5), (Precision::Int16, 5e-3), (Precision::Bf16, 1e-2)]
        {
            let cpu = Cpu::new(set, 2);
            let compute = Compute { cpu: &cpu, precision };
            let mut grads = Parameters::zeros(layout.clone());
            let view = Weights::dense(&params);
            let (loss, dhidden) = decoder.head_loss_and_gradients(
                compute,
                &view,
                (&hidden, targets),
                0.25,
                &mut Gradients::Model(&mut grads),
            );
            let place = format!("{}, {precision:?}", set.name());
            assert!((loss.nats / expected.nats - 1.0).abs() < limit, "{place}: loss {}", loss.nats);
            assert_eq!(loss.weight, weights.iter().map(|weight| f64::from(*weight)).sum::<f64>(), "{place}");
            let dhead = error(grads.get("lm_head.weight").expect("the head"), &expected.dhead);
            let dhidden = error(&dhidden, &expected.dhidden);
            assert!(dhead < limit && dhidden < limit, "{place}: head {dhead}, hidden {dhidden}");
        }
    }
}

#[test]
fn logits_of_many_rows_are_never_whole() {
    for vocab_size in [64, 4096, 32_000, 128_000, 10_000_000] {
        let mut config = preset("shakti-nano").expect("a preset");
        config.vocab_size = vocab_size;
        let decoder = Decoder::new(config).expect("a valid configuration");
        let chunks = decoder.chunks(&[1.0; 5000]);
        let rows = chunks.iter().map(Vec::len).max().expect("chunks");
        assert!(rows <= 512 && (rows * vocab_size <= 16 << 20 || rows == 16), "{vocab_size}: {rows} rows");
        assert_eq!(chunks.concat(), (0..5000).collect::<Vec<_>>());
    }
}
