//! Plans have the sizes of `docs/paper.md`; blocks in memory round as the formats do.

use std::sync::Arc;

use shakti_engine::Network;
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
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
        let cpu = Cpu::detect(Some(threads)).unwrap();
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
fn importance_is_the_mean_square_of_every_linear_input() {
    let (config, params, ids) = calibrated();
    let cpu = Arc::new(Cpu::detect(Some(2)).unwrap());
    let network = Network::load(config.clone(), &params, cpu).unwrap();
    let importance = Importance::collect(&network, &ids).unwrap();
    assert_eq!(importance.tokens(), 700);
    for spec in config.parameters() {
        let found = importance.of(&spec.name);
        // An untied embedding is looked up, vectors are added or multiplied: neither has an input.
        let linear = spec.shape.len() == 2 && spec.name != "model.embed_tokens.weight";
        assert_eq!(found.map(<[f32]>::len), linear.then(|| spec.shape[1]), "{}", spec.name);
        assert!(found.is_none_or(|means| means.iter().all(|mean| *mean > 0.0)), "{}", spec.name);
    }
    let of = |name: &str| importance.of(&format!("model.layers.0.{name}_proj.weight")).unwrap();
    assert_eq!(of("self_attn.q"), of("self_attn.v"));
    assert_ne!(of("self_attn.q"), of("mlp.gate"));
    // The first layer's input is the normalised embedding of each id: mean squares by hand.
    let table = params.get("model.embed_tokens.weight").unwrap();
    let mut expected = vec![0.0f64; config.hidden_size];
    for id in &ids {
        let row = &table[*id as usize * config.hidden_size..][..config.hidden_size];
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let mean = row.iter().map(square).sum::<f64>() / row.len() as f64 + f64::from(config.norm_eps);
        expected.iter_mut().zip(row).for_each(|(sum, value)| *sum += square(value) / mean / 700.0);
    }
    for (found, expected) in of("self_attn.q").iter().zip(&expected) {
        assert!((f64::from(*found) / expected - 1.0).abs() < 1e-4, "{found} for {expected}");
    }
    for ids in [&[][..], &[1]] {
        assert!(matches!(Importance::collect(&network, ids), Err(QuantError::NoCalibration { .. })));
    }
}

#[test]
fn calibration_lowers_the_weighted_error_of_every_tensor() {
    let (config, params, ids) = calibrated();
    let cpu = Arc::new(Cpu::detect(Some(2)).unwrap());
    let network = Network::load(config.clone(), &params, cpu.clone()).unwrap();
    let importance = Importance::collect(&network, &ids).unwrap();
    let options = Options { importance: Some(&importance), ..Options::default() };
    for kind in ["q4_0", "q4_k_m"] {
        let plan = plan(&config, kind.parse().unwrap(), None);
        let make = |options| QuantizedModel::new(&cpu, &params, &plan, options, |_| {}).unwrap();
        let (plain, searched) = (make(Options::default()), make(options));
        for (plain_report, report) in plain.reports.iter().zip(&searched.reports) {
            let name = &report.plan.spec.name;
            let bytes = |model: &QuantizedModel| model.tensor(&report.plan.spec).unwrap().bytes.len();
            assert_eq!(bytes(&plain), bytes(&searched), "{kind}, {name}");
            assert_eq!(plain_report.weighted, None);
            let quantized = report.plan.dtype.is_quantized();
            let error = report.weighted.unwrap();
            if quantized && importance.of(name).is_none() {
                assert!(error == report.nmse && error < plain_report.nmse, "{kind}, {name}: {error}");
            } else if quantized {
                // Random weights know nothing of the inputs, so plain and weighted error agree to a few percent.
                assert!((0.0..0.99 * plain_report.nmse).contains(&error), "{kind}, {name}: {error}");
            }
        }
    }
}

#[test]
fn a_plan_for_a_size_keeps_it_and_more_bytes_are_never_worse() {
    let (config, params, ids) = calibrated();
    let cpu = Arc::new(Cpu::detect(Some(2)).unwrap());
    let network = Network::load(config.clone(), &params, cpu.clone()).unwrap();
    let importance = Importance::collect(&network, &ids).unwrap();
    let options = Options { importance: Some(&importance), ..Options::default() };
    let smallest = total_bytes(&plan(&config, "q4_0".parse().unwrap(), Some(DType::Q4_0)));
    let at = |bytes: usize, embedding| {
        plan_for_size(&cpu, &params, (&config, embedding), bytes, options).inspect(|plan| {
            assert!(total_bytes(plan) <= bytes, "{bytes}");
        })
    };
    let kind = |plan: &[TensorPlan], name: &str| {
        plan.iter().find(|tensor| tensor.spec.name == name).map(|tensor| tensor.dtype)
    };
    let error = |plan: &[TensorPlan]| -> f64 {
        let model = QuantizedModel::new(&cpu, &params, plan, options, |_| {}).unwrap();
        let of = |report: &TensorReport| {
            let factor = if report.plan.spec.name == "lm_head.weight" { 10.0 } else { 1.0 };
            factor * report.weighted.unwrap()
        };
        model.reports.iter().map(of).sum()
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
            let cpu = Arc::new(Cpu::detect(Some(threads)).unwrap());
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
