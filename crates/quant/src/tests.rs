//! Plans have the sizes of `docs/paper.md`; blocks in memory round as the formats do.

use std::sync::Arc;

use shakti_engine::Network;
use shakti_kernels::blocks::DType;
use shakti_kernels::{Cpu, KernelSet};
use shakti_model::{Layout, ModelConfig, Parameters, TensorSource, preset};

use crate::*;

fn megabytes(name: &str, kind: &str, embedding: Option<DType>) -> f64 {
    total_bytes(&plan(&preset(name).unwrap(), kind.parse().unwrap(), embedding)) as f64 / 1e6
}

#[test]
fn sizes_are_those_of_the_formats() {
    assert!((megabytes("shakti-100m", "f32", None) - 401.8).abs() < 0.1);
    let ratio = |kind: &str, embedding| {
        megabytes("shakti-100m", "f32", None) / megabytes("shakti-100m", kind, embedding)
    };
    assert!((ratio("q4_0", Some(DType::Q4_0)) - 7.1).abs() < 0.05, "Q4_0 throughout");
    assert!((ratio("q4_0", Some(DType::Q8_0)) - 5.2).abs() < 0.05, "Q4_0 with a Q8_0 head");
}

#[test]
fn rows_that_do_not_fit_fall_back_and_say_so() {
    let config = preset("shakti-100m").unwrap();
    let plan = plan(&config, "q4_k_m".parse().unwrap(), None);
    let of = |end: &str| plan.iter().find(|tensor| tensor.spec.name.ends_with(end)).unwrap();
    assert_eq!((of("q_proj.weight").dtype, of("q_proj.weight").wanted), (DType::Q5_0, Some(DType::Q4_K)));
    assert_eq!(
        (of("embed_tokens.weight").dtype, of("embed_tokens.weight").wanted),
        (DType::Q8_0, Some(DType::Q6_K))
    );
    assert_eq!(of("layers.0.mlp.down_proj.weight").dtype, DType::Q6_K);
    assert_eq!(of("layers.1.mlp.down_proj.weight").dtype, DType::Q4_K);
    assert_eq!(of("input_layernorm.weight").dtype, DType::F32);
    assert!("q3_k".parse::<FileType>().unwrap_err().to_string().contains("q4_k_m"));
}

#[test]
fn blocks_in_memory_are_the_rows_quantized() {
    let mut config = preset("shakti-nano").unwrap();
    (config.num_hidden_layers, config.vocab_size) = (1, 100);
    (config.num_kv_heads, config.layer_types) = (vec![2], vec![config.layer_types[0]]);
    let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 3);
    let mut bits = Vec::new();
    for threads in [1, 3] {
        let cpu = Cpu::new(KernelSet::best().unwrap(), threads);
        let plan = plan(&config, "q4_0".parse().unwrap(), Some(DType::Q4_0));
        let model = QuantizedModel::new(&cpu, &params, &plan, Options::default(), |_| {}).unwrap();
        assert_eq!(model.bytes(), total_bytes(&plan));
        let spec = &plan[1].spec;
        let stored = model.tensor(spec).unwrap();
        let mut expected = vec![0; DType::Q4_0.row_bytes(256).unwrap()];
        shakti_kernels::blocks::quantize_row(
            DType::Q4_0,
            &params.get(&spec.name).unwrap()[256..512],
            &mut expected,
        )
        .unwrap();
        assert_eq!(stored.bytes[expected.len()..2 * expected.len()], expected);
        let report = &model.reports[1];
        assert!((0.001..0.02).contains(&report.nmse), "{}", report.nmse);
        bits.push(stored.bytes.to_vec());
        let again = QuantizedModel::new(
            &cpu,
            &model,
            &crate::plan(&config, "q8_0".parse().unwrap(), None),
            Options::default(),
            |_| {},
        );
        assert!(again.unwrap_err().to_string().contains("already"));
    }
    assert_eq!(bits[0], bits[1]);
}

#[test]
fn values_that_no_block_can_hold_are_refused_by_tensor() {
    let mut config = preset("shakti-nano").unwrap();
    (config.num_hidden_layers, config.vocab_size) = (1, 100);
    (config.num_kv_heads, config.layer_types) = (vec![2], vec![config.layer_types[0]]);
    let mut params = Parameters::init(&config, Arc::new(Layout::new(&config)), 3);
    params.slice_mut(2)[5] = f32::NAN;
    let cpu = Cpu::detect(Some(1)).unwrap();
    let plan = plan(&config, "q8_0".parse().unwrap(), None);
    let error =
        QuantizedModel::new(&cpu, &params, &plan, Options::default(), |_| {}).unwrap_err().to_string();
    assert!(error.contains(&plan[2].spec.name) && error.contains("NaN"), "{error}");
}

/// A model of one layer with an untied head, and a text for it.
fn calibrated() -> (ModelConfig, Parameters, Vec<u32>) {
    let mut config = preset("shakti-nano").unwrap();
    (config.num_hidden_layers, config.vocab_size, config.tie_word_embeddings) = (1, 100, false);
    config.num_kv_heads = vec![2];
    config.intermediate_size = 256;
    config.layer_types.truncate(1);
    config.initializer_range = 0.1;
    let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 3);
    (config, params, (0..700).map(|i| (i * i + i / 7) % 100).collect())
}

#[test]
fn a_plan_for_a_size_keeps_it_and_more_bytes_are_never_worse() {
    let (config, params, ids) = calibrated();
    let cpu = Arc::new(Cpu::detect(Some(2)).unwrap());
    let calibration = Calibration::new(&config, &ids).unwrap();
    let options = Options { calibration: Some(&calibration), ..Options::default() };
    let smallest = total_bytes(&plan(&config, "q4_0".parse().unwrap(), Some(DType::Q4_0)));
    let at = |bytes: usize, embedding| {
        plan_for_size(&cpu, &params, (&config, embedding), bytes, options).inspect(|plan| {
            assert!(total_bytes(plan) <= bytes, "{bytes}");
        })
    };
    let kind = |plan: &[TensorPlan], name: &str| {
        plan.iter().find(|tensor| tensor.spec.name == name).map(|tensor| tensor.dtype)
    };
    let network = |source: &dyn TensorSource| Network::load(config.clone(), source, cpu.clone()).unwrap();
    let reference = network(&params);
    let window = shakti_engine::ScoredWindow { ids: &ids, scored_from: 1 };
    let error = |plan: &[TensorPlan]| -> f64 {
        let model = QuantizedModel::new(&cpu, &params, plan, options, |_| {}).unwrap();
        network(&model).divergences(&reference, &[window]).unwrap()[0]
    };
    let mut errors = Vec::new();
    for share in [1.0, 1.5] {
        errors.push(error(&at((share * smallest as f64) as usize, None).unwrap()));
    }
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
    // A mix is better than one type throughout at the size of that type.
    let uniform = plan(&config, "q5_0".parse().unwrap(), Some(DType::Q5_0));
    let mixed = at(total_bytes(&uniform), None).unwrap();
    assert!(error(&mixed) < error(&uniform), "{} {}", error(&mixed), error(&uniform));
    let fixed = at(2 * smallest, Some(DType::F16)).unwrap();
    assert_eq!(kind(&fixed, "lm_head.weight"), Some(DType::F16));
    assert_eq!(kind(&fixed, "model.embed_tokens.weight"), Some(DType::F16));
    assert_eq!(FileType::most_like(&uniform).name(), "q5_0");
}

#[test]
fn a_calibrated_model_is_far_nearer_to_the_original_and_the_same_for_any_threads() {
    let (mut config, _, _) = calibrated();
    (config.num_hidden_layers, config.num_kv_heads) = (2, vec![2; 2]);
    config.layer_types = vec![config.layer_types[0]; 2];
    let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 5);
    let text = |seed: usize| -> Vec<u32> { (0..1500).map(|i| ((i * i + i / seed) % 97) as u32).collect() };
    let (ids, held_out) = (text(7), text(11));
    let window = shakti_engine::ScoredWindow { ids: &held_out[..512], scored_from: 1 };
    for kind in ["q4_0", "q4_k_m"] {
        let plan = plan(&config, kind.parse().unwrap(), None);
        let calibration = Calibration::new(&config, &ids).unwrap();
        let made = |threads: usize, calibration| {
            let cpu = Arc::new(Cpu::new(KernelSet::best().unwrap(), threads));
            let options = Options { calibration, ..Options::default() };
            let mut names = Vec::new();
            let model = QuantizedModel::new(&cpu, &params, &plan, options, |tensor| {
                names.push(tensor.plan.spec.name.clone());
            });
            let model = model.unwrap();
            assert_eq!((names.len(), model.reports.len()), (plan.len(), plan.len()));
            assert!(model.reports.iter().zip(&plan).all(|(report, tensor)| report.plan == *tensor));
            let network =
                |source: &dyn TensorSource| Network::load(config.clone(), source, cpu.clone()).unwrap();
            let divergence = network(&model).divergences(&network(&params), &[window]).unwrap()[0];
            let bytes: Vec<u8> = plan
                .iter()
                .flat_map(|tensor| model.tensor(&tensor.spec).unwrap().bytes.into_owned())
                .collect();
            (divergence, bytes)
        };
        let ((plain, _), (found, bytes)) = (made(2, None), made(2, Some(&calibration)));
        assert!(found < 0.7 * plain, "{kind}: {found} against {plain}");
        assert!(bytes == made(1, Some(&calibration)).1, "{kind}");
    }
    assert!(matches!(Calibration::new(&config, &[1]), Err(QuantError::NoCalibration { tokens: 1 })));
}

#[test]
fn second_moments_are_those_of_the_normalised_inputs() {
    let (config, params, ids) = calibrated();
    let cpu = Cpu::detect(Some(2)).unwrap();
    let calibration = Calibration::new(&config, &ids).unwrap();
    assert_eq!(calibration.tokens(), 700);
    let walk = crate::sequential::Walk::new(&cpu, &params, &calibration).unwrap();
    let index = Layout::new(&config).index("model.layers.0.self_attn.q_proj.weight").unwrap();
    let found = walk.observe(0, &walk.embed().unwrap(), &[index]).remove(&index).unwrap();
    // What enters the first layer is the normalised embedding of each id: its moment by hand.
    let k = config.hidden_size;
    let table = params.get("model.embed_tokens.weight").unwrap();
    let mut expected = vec![0.0f64; k * k];
    for id in &ids {
        let row = &table[*id as usize * k..][..k];
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let mean = row.iter().map(square).sum::<f64>() / k as f64 + f64::from(config.norm_eps);
        for (i, a) in row.iter().enumerate() {
            for (j, b) in row.iter().enumerate() {
                expected[i * k + j] += f64::from(*a) * f64::from(*b) / mean / 700.0;
            }
        }
    }
    for (found, expected) in found.iter().zip(&expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} for {expected}");
    }
}
