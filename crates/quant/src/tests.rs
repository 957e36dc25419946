//! Plans have the sizes of `docs/paper.md`; blocks in memory round as the formats do.

use std::sync::Arc;

use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::{Layout, Parameters, TensorSource, preset};

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
        let model = QuantizedModel::new(&cpu, &params, &plan, false, |_| {}).unwrap();
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
            false,
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
    let error = QuantizedModel::new(&cpu, &params, &plan, false, |_| {}).unwrap_err().to_string();
    assert!(error.contains(&plan[2].spec.name) && error.contains("NaN"), "{error}");
}
