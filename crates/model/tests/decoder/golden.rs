//! Logits, loss and every gradient against PyTorch and Transformers (`golden/`, scripts in `reference/`).

use std::ops::Range;

use crate::common::{Golden, machines, relative};
use shakti_kernels::{Cpu, Precision};
use shakti_model::{
    Batch, CacheMode, Compute, Decoder, KvCache, PackedWeights, Parameters, Targets, TrainPass, Weights,
};

/// Rows of documents of the given lengths, one after the other.
fn rows_of(lengths: &[u32]) -> Vec<Range<usize>> {
    let mut end = 0;
    lengths
        .iter()
        .map(|len| {
            end += *len as usize;
            end - *len as usize..end
        })
        .collect()
}

fn f32_compute(cpu: &Cpu) -> Compute<'_> {
    Compute { cpu, precision: Precision::F32 }
}

/// Logits of chosen rows, through fresh caches.
fn logits(
    cpu: &Cpu,
    config: &shakti_model::ModelConfig,
    weights: &Weights<'_>,
    ids: &[u32],
    lengths: &[u32],
) -> Vec<f32> {
    let decoder = Decoder::new(config.clone()).unwrap();
    let rows = rows_of(lengths);
    let fresh = |rows: &Range<usize>| {
        KvCache::new(config, CacheMode::Bounded { max_seq_len: rows.len() }, rows.len())
    };
    let mut caches: Vec<KvCache> = rows.iter().map(fresh).collect();
    let mut borrowed: Vec<&mut KvCache> = caches.iter_mut().collect();
    let batch = Batch { tokens: ids, rows: &rows };
    let hidden = decoder.forward(f32_compute(cpu), weights, batch, &mut borrowed).unwrap();
    decoder.logits(f32_compute(cpu), weights, &hidden).to_vec()
}

fn chosen(logits: &[f32], rows: &[u32], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|row| logits[*row as usize * width..(*row as usize + 1) * width].to_vec()).collect()
}

/// PyTorch's own float32 run lies within 6e-7 of its float64 run; sums in another order stay within 1e-5.
const TOLERANCE: f32 = 1e-5;

#[test]
fn logits_and_gradients_equal_pytorch() {
    for name in ["tiny_shakti", "tiny_layernorm"] {
        let golden = Golden::load(name);
        let (ids, lengths) = (golden.ids("input_ids"), golden.ids("document_lengths"));
        let (targets, weights) = (golden.ids("targets"), golden.floats("loss_weights"));
        let expected_loss: serde_json::Value = serde_json::from_str(
            &std::fs::read_to_string(crate::common::path(name).join("expect.json")).unwrap(),
        )
        .unwrap();
        let expected_loss = expected_loss["mean_masked_loss"]["float64"].as_f64().unwrap();
        for cpu in machines() {
            let what = format!("{name}, {} with {} threads", cpu.kernels.name(), cpu.pool.threads());
            let dense = Weights::dense(&golden.params);
            let all = logits(&cpu, &golden.config, &dense, &ids, &lengths);
            let some = chosen(&all, &golden.ids("logit_rows"), golden.config.vocab_size);
            let error = relative(&some, &golden.floats("logits"));
            assert!(error < TOLERANCE, "{what}: logits differ by {error}");

            let decoder = Decoder::new(golden.config.clone()).unwrap();
            let mut grads = Parameters::zeros(golden.params.layout().clone());
            let rows = rows_of(&lengths);
            let batch = Batch { tokens: &ids, rows: &rows };
            let wanted = Targets { targets: &targets, weights: &weights };
            let grad_scale = 1.0 / weights.iter().sum::<f32>();
            let pass = TrainPass { grad_scale, dropout_seed: 0, recompute: false };
            let loss = decoder
                .loss_and_gradients(
                    f32_compute(&cpu),
                    &golden.params,
                    (batch, wanted),
                    pass,
                    (&mut grads, &mut |_, _| {}),
                )
                .unwrap();
            assert!(
                (loss.mean() - expected_loss).abs() < 1e-6 * expected_loss,
                "{what}: loss {}",
                loss.mean()
            );
            for spec in grads.layout().specs() {
                let error =
                    relative(grads.get(&spec.name).unwrap(), &golden.floats(&format!("grad.{}", spec.name)));
                assert!(error < 2.0 * TOLERANCE, "{what}: gradient of {} differs by {error}", spec.name);
            }
        }
    }
}

#[test]
fn a_folder_that_transformers_wrote_gives_its_logits() {
    for name in ["tiny_llama", "tiny_llama_tied"] {
        let golden = Golden::load(name);
        let ids = golden.ids("input_ids");
        for cpu in machines() {
            let packed = PackedWeights::load(&golden.config, &golden.params, &cpu).unwrap();
            for weights in [Weights::dense(&golden.params), packed.weights()] {
                let all = logits(&cpu, &golden.config, &weights, &ids, &[ids.len() as u32]);
                let error = relative(&all, &golden.floats("logits"));
                assert!(error < TOLERANCE, "{name}, {}: logits differ by {error}", cpu.kernels.name());
            }
        }
    }
}

#[test]
fn block_sparse_tables_equal_the_second_implementation() {
    let text = std::fs::read_to_string(crate::common::path("attention_masks/block_sparse.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tables = golden["tables"].as_array().unwrap();
    assert!(tables.len() >= 8);
    for table in tables {
        let number = |key: &str| table[key].as_u64().unwrap();
        let pattern = shakti_model::BlockSparse { seed: number("seed"), ..Default::default() };
        for (block, expected) in table["visible_blocks"].as_array().unwrap().iter().enumerate() {
            let expected: Vec<usize> = serde_json::from_value(expected.clone()).unwrap();
            let visible = shakti_model::visible_blocks(
                &pattern,
                number("layer") as usize,
                number("kv_head") as usize,
                block,
            );
            assert_eq!(visible, expected, "{table} block {block}");
        }
    }
}
