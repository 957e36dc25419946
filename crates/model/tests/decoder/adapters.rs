//! Adapters: gradients that are those of the loss, on dense weights and on blocks; what they leave alone; merging.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use shakti_kernels::blocks::{DType, quantize_row};
use shakti_kernels::{Cpu, KernelSet, Precision};
use shakti_model::{
    Adapter, Batch, CacheMode, Compute, Decoder, KvCache, LORA_TARGETS, Layout, LoraConfig, ModelConfig,
    PackedWeights, ParamSpec, Parameters, Targets, TensorData, TensorSource, TrainPass, Weights, preset,
};

use crate::common::{Golden, machines, path, relative, tensor, tensor_ids};

fn small() -> ModelConfig {
    let mut config = preset("shakti-nano").unwrap();
    (config.num_hidden_layers, config.num_kv_heads) = (2, vec![2, 1]);
    config.layer_types.truncate(2);
    (config.hidden_size, config.intermediate_size) = (256, 256);
    (config.num_attention_heads, config.head_dim, config.vocab_size) = (4, 64, 64);
    config.initializer_range = 0.1;
    config
}

fn lora(dora: bool, dropout: f32) -> LoraConfig {
    let targets = LORA_TARGETS.map(str::to_owned).to_vec();
    LoraConfig { rank: 4, alpha: 8.0, dropout, targets, rslora: false, dora }
}

/// Matrices in a block format.
struct Blocks(HashMap<String, (DType, Vec<u8>)>);

impl Blocks {
    fn new(params: &Parameters, dtype: DType) -> Self {
        let blocks = params.layout().specs().iter().map(|spec| {
            let dtype = if spec.shape.len() == 2 { dtype } else { DType::F32 };
            let mut bytes = Vec::new();
            for row in params.get(&spec.name).unwrap().chunks(*spec.shape.last().unwrap()) {
                let mut out = vec![0; dtype.row_bytes(row.len()).unwrap()];
                quantize_row(dtype, row, &mut out).unwrap();
                bytes.extend(out);
            }
            (spec.name.clone(), (dtype, bytes))
        });
        Self(blocks.collect())
    }
}

impl TensorSource for Blocks {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let (dtype, bytes) = &self.0[&spec.name];
        Ok(TensorData { dtype: *dtype, bytes: Cow::Borrowed(bytes) })
    }
}

fn params_of(config: &ModelConfig) -> Parameters {
    Parameters::init(config, Arc::new(Layout::new(config)), 7)
}

/// Deterministic numbers in -1..1.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

/// An adapter that does something: nothing in it is zero.
fn busy(cpu: &Cpu, config: &ModelConfig, lora: LoraConfig, weights: &Weights<'_>) -> Adapter {
    let mut adapter = Adapter::init(config, lora, 3, (cpu, weights)).unwrap();
    for index in 0..adapter.params().layout().specs().len() {
        let values = adapter.params_mut().slice_mut(index);
        let noise = noise(values.len(), index as u32 + 1);
        values.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.05 * noise);
    }
    adapter.refresh(cpu, weights);
    adapter
}

struct Task {
    tokens: Vec<u32>,
    targets: Vec<u32>,
    weights: Vec<f32>,
    /// Rows of its documents.
    rows: Vec<Range<usize>>,
}

impl Task {
    fn new() -> Self {
        let ids = |seed| noise(40, seed).iter().map(|x| ((x + 1.0) * 31.9) as u32).collect();
        Self { tokens: ids(1), targets: ids(2), weights: vec![1.0; 40], rows: vec![0..25, 25..40] }
    }

    /// Summed loss and its gradients.
    fn gradients(&self, cpu: &Cpu, config: &ModelConfig, weights: &Weights<'_>) -> (f64, Parameters) {
        let adapter = weights.adapter().unwrap();
        let mut grads = Parameters::zeros(adapter.params().layout().clone());
        let batch = Batch { tokens: &self.tokens, rows: &self.rows };
        let targets = Targets { targets: &self.targets, weights: &self.weights };
        let compute = Compute { cpu, precision: Precision::F32 };
        let pass = TrainPass { grad_scale: 1.0, dropout_seed: 9, recompute: false };
        let decoder = Decoder::new(config.clone()).unwrap();
        let loss = decoder
            .adapter_gradients(compute, weights, (batch, targets), pass, (&mut grads, &mut |_, _| {}))
            .unwrap();
        (loss.nats, grads)
    }
}

/// Compares every gradient of the adapter along one direction with the difference of two losses.
fn check(cpu: &Cpu, config: &ModelConfig, adapter: &mut Adapter, weights: &Weights<'_>, what: &str) {
    let task = Task::new();
    let (_, grads) = task.gradients(cpu, config, &weights.adapted(adapter));
    for index in 0..grads.layout().specs().len() {
        let name = grads.layout().specs()[index].name.clone();
        let direction = noise(grads.slice(index).len(), 100 + index as u32);
        let mut loss_at = |step: f32| {
            let kept = adapter.params().slice(index).to_vec();
            let values = adapter.params_mut().slice_mut(index);
            values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
            let (loss, _) = task.gradients(cpu, config, &weights.adapted(adapter));
            adapter.params_mut().slice_mut(index).copy_from_slice(&kept);
            loss
        };
        let step = 4e-3;
        let found = (loss_at(step) - loss_at(-step)) / (2.0 * f64::from(step));
        let expected: f64 =
            grads.slice(index).iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let error = (found - expected).abs() / (expected.abs() + 0.3);
        assert!(error < 0.02, "{what}, {name}: {expected} by the backward pass, {found} by differences");
    }
}

#[test]
fn gradients_are_those_of_the_loss_on_dense_weights_and_on_blocks() {
    let config = small();
    let params = params_of(&config);
    let cpu = Cpu::new(KernelSet::best().unwrap(), 2);
    for (dora, dropout) in [(false, 0.0), (false, 0.2), (true, 0.0), (true, 0.2)] {
        let weights = Weights::dense(&params);
        let mut adapter = busy(&cpu, &config, lora(dora, dropout), &weights);
        check(&cpu, &config, &mut adapter, &weights, &format!("dense, DoRA {dora}, dropout {dropout}"));
    }
    for (dtype, dora) in
        [(DType::Q4_0, false), (DType::Q4_K, true), (DType::Q8_0, true), (DType::Q6_K, false)]
    {
        let blocks: Arc<dyn TensorSource + Send + Sync> = Arc::new(Blocks::new(&params, dtype));
        let stored = PackedWeights::load_as_stored(&config, &blocks, &cpu).unwrap();
        let packed = PackedWeights::load(&config, &*blocks, &cpu).unwrap();
        let mut adapter = busy(&cpu, &config, lora(dora, 0.0), &stored.weights());
        check(&cpu, &config, &mut adapter, &stored.weights(), &format!("{dtype}, DoRA {dora}"));
        let task = Task::new();
        let [(loss, a), (other, b)] = [&stored, &packed]
            .map(|weights| task.gradients(&cpu, &config, &weights.weights().adapted(&adapter)));
        assert!(loss == other && *a.data == *b.data, "{dtype}: packed and stored differ");
    }
}

#[test]
fn gradients_are_the_same_bits_for_any_number_of_threads() {
    let config = small();
    let params = params_of(&config);
    let run = |threads: usize, dora: bool| {
        let cpu = Cpu::new(KernelSet::best().unwrap(), threads);
        let blocks: Arc<dyn TensorSource + Send + Sync> = Arc::new(Blocks::new(&params, DType::Q4_0));
        let stored = PackedWeights::load_as_stored(&config, &blocks, &cpu).unwrap();
        let adapter = busy(&cpu, &config, lora(dora, 0.1), &stored.weights());
        Task::new().gradients(&cpu, &config, &stored.weights().adapted(&adapter)).1.data.to_vec()
    };
    for dora in [false, true] {
        assert_eq!(run(1, dora), run(3, dora));
    }
}

/// Logits `[N, V]` of 40 tokens in one sequence fed in calls of these lengths.
fn logits(cpu: &Cpu, config: &ModelConfig, weights: &Weights<'_>, calls: &[usize]) -> Vec<f32> {
    logits_of(&Task::new().tokens, cpu, config, weights, calls)
}

fn logits_of(
    tokens: &[u32],
    cpu: &Cpu,
    config: &ModelConfig,
    weights: &Weights<'_>,
    calls: &[usize],
) -> Vec<f32> {
    let decoder = Decoder::new(config.clone()).unwrap();
    let compute = Compute { cpu, precision: Precision::F32 };
    let mut cache = KvCache::new(config, CacheMode::Bounded { max_seq_len: 40 }, 40);
    let (mut start, mut logits) = (0, Vec::new());
    for len in calls {
        let batch = Batch { tokens: &tokens[start..start + len], rows: &[0..*len] };
        let hidden = decoder.forward(compute, weights, batch, &mut [&mut cache]).unwrap();
        logits.extend_from_slice(&decoder.logits(compute, weights, &hidden));
        start += len;
    }
    logits
}

#[test]
fn an_adapter_that_learned_nothing_changes_no_bit() {
    let config = small();
    let params = params_of(&config);
    for cpu in machines() {
        let packed = PackedWeights::load(&config, &Blocks::new(&params, DType::Q4_0), &cpu).unwrap();
        for (weights, dora) in [(Weights::dense(&params), false), (packed.weights(), true)] {
            let adapter = Adapter::init(&config, lora(dora, 0.5), 3, (&cpu, &weights)).unwrap();
            let [plain, adapted] =
                [weights, weights.adapted(&adapter)].map(|weights| logits(&cpu, &config, &weights, &[40]));
            assert_eq!(plain, adapted, "{}", cpu.kernels.name());
        }
    }
}

#[test]
fn merged_weights_compute_what_the_adapter_does() {
    let config = small();
    let params = params_of(&config);
    let cpu = Cpu::new(KernelSet::best().unwrap(), 2);
    for dora in [false, true] {
        let weights = Weights::dense(&params);
        let adapter = busy(&cpu, &config, lora(dora, 0.0), &weights);
        let mut merged = params.clone();
        let indices = 0..params.layout().specs().len();
        indices.clone().for_each(|index| adapter.merge(&cpu, index, merged.slice_mut(index)));
        assert_eq!(indices.filter(|index| adapter.adapts(*index)).count(), 2 * LORA_TARGETS.len());
        let expected = logits(&cpu, &config, &Weights::dense(&merged), &[40]);
        let found = logits(&cpu, &config, &weights.adapted(&adapter), &[40]);
        let error = relative(&found, &expected);
        assert!(error < 1e-5, "DoRA {dora}: {error}");
        let plain = logits(&cpu, &config, &weights, &[40]);
        assert!(relative(&plain, &expected) > 0.05, "DoRA {dora}: the adapter does nothing");
    }
}

#[test]
fn an_adapted_model_decodes_the_bits_it_prefills() {
    let config = small();
    let params = params_of(&config);
    for cpu in machines() {
        let packed = PackedWeights::load(&config, &Blocks::new(&params, DType::Q4_0), &cpu).unwrap();
        let adapter = busy(&cpu, &config, lora(true, 0.0), &packed.weights());
        let weights = packed.weights().adapted(&adapter);
        let (at_once, one_by_one) =
            (logits(&cpu, &config, &weights, &[40]), logits(&cpu, &config, &weights, &[1; 40]));
        assert_eq!(at_once, one_by_one, "{}", cpu.kernels.name());
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let refused = |change: &dyn Fn(&mut LoraConfig), expected: &str| {
        let mut config = lora(false, 0.0);
        change(&mut config);
        assert_eq!(Adapter::zeros(&small(), config).unwrap_err().to_string(), expected);
    };
    refused(&|lora| lora.rank = 0, "adapter: `rank` is 0, expected 1 to 4096");
    refused(&|lora| lora.alpha = -1.0, "adapter: `alpha` is -1, expected a positive number");
    refused(&|lora| lora.dropout = 1.0, "adapter: `dropout` is 1, expected 0 up to but not including 1");
    refused(
        &|lora| lora.targets.push("lm_head".into()),
        "adapter: `targets` is `lm_head`, expected some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
    );
}

/// The adapter in a golden folder.
fn golden_adapter(config: &ModelConfig, folder: &str) -> Adapter {
    let text = std::fs::read_to_string(path(&format!("{folder}/adapter_config.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lora = LoraConfig {
        rank: json["r"].as_u64().unwrap() as usize,
        alpha: json["lora_alpha"].as_f64().unwrap() as f32,
        dropout: 0.0,
        targets: serde_json::from_value(json["target_modules"].clone()).unwrap(),
        rslora: json["use_rslora"].as_bool().unwrap(),
        dora: json["use_dora"].as_bool().unwrap(),
    };
    let mut adapter = Adapter::zeros(config, lora).unwrap();
    for spec in adapter.params().layout().specs().to_vec() {
        let file = format!("{folder}/adapter_model.safetensors");
        let values = tensor(&file, &format!("base_model.model.{}", spec.name));
        adapter.params_mut().set(&spec.name, &values).unwrap();
    }
    adapter
}

#[test]
fn logits_and_gradients_equal_those_of_peft() {
    let Golden { config, params, .. } = Golden::load("tiny_llama");
    for name in ["lora", "rslora", "dora"] {
        let folder = format!("adapters/{name}");
        let expected = |name: &str| tensor(&format!("{folder}/expect.safetensors"), name);
        let ids = |name: &str| tensor_ids(&format!("{folder}/expect.safetensors"), name);
        let (tokens, targets, weights) = (ids("input_ids"), ids("targets"), expected("weights"));
        let task = Task { tokens, targets, weights, rows: std::iter::once(0..40).collect() };
        for cpu in machines() {
            let weights = Weights::dense(&params);
            let mut adapter = golden_adapter(&config, &folder);
            adapter.refresh(&cpu, &weights);
            let weights = weights.adapted(&adapter);
            let what = format!("{name}, {}", cpu.kernels.name());
            let error =
                relative(&logits_of(&task.tokens, &cpu, &config, &weights, &[40]), &expected("logits"));
            assert!(error < 1e-5, "{what}: logits differ by {error}");
            let (_, mut grads) = task.gradients(&cpu, &config, &weights);
            cpu.scale(&mut grads.data, 1.0 / task.weights.iter().sum::<f32>());
            for spec in grads.layout().specs() {
                let wanted = expected(&format!("grad.base_model.model.{}", spec.name));
                let error = relative(grads.get(&spec.name).unwrap(), &wanted);
                assert!(error < 2e-5, "{what}: gradient of {} differs by {error}", spec.name);
            }
        }
    }
}
