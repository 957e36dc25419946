//! This machine: layers timed alone, reading measured, and the whole model run beside the prediction.

use std::borrow::Cow;
use std::sync::Arc;

use shakti_engine::Network;
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_measure::{Cell, LayerTime, Load, Meter, Speedometer, Spread, memory_bytes, reading_rate};
use shakti_model::{Cost, LayerType, ModelConfig, ParamSpec, TensorData, TensorSource};
use shakti_quant::{FileType, TensorPlan, plan};

use super::FormatPlan;
use crate::commands::model::FormatSize;
use crate::failure::Failure;

/// Rounds of a comparison, after one that does not count.
const ROUNDS: usize = 3;
/// Vocabulary of a layer that is timed alone.
const FEW_TOKENS: usize = 64;

/// Predicts a format, and runs it if there is room and `compare` asks for it.
pub fn plan_format(
    cpu: &Arc<Cpu>,
    size: &FormatSize,
    load: &Load<'_>,
    compare: bool,
) -> Result<FormatPlan, Failure> {
    let kind: FileType = size.format.parse()?;
    let layers = layers(cpu, kind, load)?;
    let weights_s = reading_seconds(cpu, kind, load)?;
    let prediction = load.predict_here(&layers, weights_s);
    let body = Cost::new(load.config).linear_flops_per_token as f64
        - (2 * load.config.vocab_size * load.config.hidden_size) as f64;
    let operations_per_s = body * prediction.prefill_tokens_per_s;
    let bytes_per_s = load.bytes_per_token as f64 / weights_s;
    let mut format = FormatPlan::new(size, prediction, [bytes_per_s, operations_per_s]);
    // Half of the memory: the rest is other programs'.
    if compare && memory_bytes().is_some_and(|ram| format.resident_bytes < ram / 2) {
        run_whole(&mut format, cpu, load)?;
    }
    Ok(format)
}

/// One layer of each kind, timed.
fn layers(cpu: &Arc<Cpu>, kind: FileType, load: &Load<'_>) -> Result<Vec<LayerTime>, Failure> {
    let config = load.config;
    let mut kinds: Vec<((LayerType, usize), usize)> = Vec::new();
    for key in config.layer_types.iter().copied().zip(config.num_kv_heads.iter().copied()) {
        match kinds.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => kinds.push((key, 1)),
        }
    }
    let time = |((layer_type, kv_heads), count): ((LayerType, usize), usize)| {
        let alone = ModelConfig {
            num_hidden_layers: 1,
            num_kv_heads: vec![kv_heads],
            layer_types: vec![layer_type],
            vocab_size: FEW_TOKENS,
            tie_word_embeddings: true,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
            ..config.clone()
        };
        let network = zeros(&alone, kind, cpu)?;
        let time = LayerTime::measure(cpu, &network, kind.base(), &Load { config: &alone, ..*load })?;
        Ok(LayerTime { count, ..time })
    };
    kinds.into_iter().map(time).collect()
}

/// Seconds in which all weights that a decoded token needs are read.
fn reading_seconds(cpu: &Cpu, kind: FileType, load: &Load<'_>) -> Result<f64, Failure> {
    let config = load.config;
    let mut read: Vec<(DType, usize)> = Vec::new();
    for tensor in plan(config, kind, None).iter().filter(|tensor| tensor.spec.shape.len() == 2) {
        if tensor.spec.name == "model.embed_tokens.weight" && !config.tie_word_embeddings {
            continue;
        }
        match read.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
            Some((_, bytes)) => *bytes += tensor.bytes,
            None => read.push((tensor.dtype, tensor.bytes)),
        }
    }
    let mut seconds = 0.0;
    for (dtype, bytes) in read {
        // All weights pass through the caches, whatever their format.
        seconds += bytes as f64 / reading_rate(cpu, dtype, load.bytes_per_token as usize)?;
    }
    Ok(seconds)
}

/// Runs the whole model on this machine.
fn run_whole(format: &mut FormatPlan, cpu: &Arc<Cpu>, load: &Load<'_>) -> Result<(), Failure> {
    let network = zeros(load.config, format.format.parse()?, cpu)?;
    let meter = Meter::default();
    // The prompt from an empty cache, the answer after it.
    let cell = |depth| Cell { prompt: load.prompt, generate: load.generate, depth, batch: 1 };
    let mut first = Speedometer::new(&network, cell(0));
    let mut then = Speedometer::new(&network, cell(load.prompt));
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let seconds = (first.prefill(&meter)?.seconds, then.decode(&meter)?.seconds);
        if round > 0 {
            prefill.push(seconds.0);
            decode.push(seconds.1);
        }
    }
    let (prefill, decode) = (Spread::of(&prefill).median, Spread::of(&decode).median);
    format.measured_prefill_tokens_per_s = Some(load.prompt as f64 / prefill);
    format.measured_decode_tokens_per_s = Some(load.generate as f64 / decode);
    format.measured_first_token_s = Some(prefill);
    Ok(())
}

/// A network of zeros in the formats of a plan. Products take the same time whatever the numbers.
fn zeros(config: &ModelConfig, kind: FileType, cpu: &Arc<Cpu>) -> Result<Arc<Network>, Failure> {
    let plan = plan(config, kind, None);
    Ok(Arc::new(Network::load(config.clone(), &Zeros { plan: &plan }, cpu.clone())?))
}

/// Weights of zero in the formats of a plan.
struct Zeros<'a> {
    plan: &'a [TensorPlan],
}

impl TensorSource for Zeros<'_> {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let tensor = self.plan.iter().find(|tensor| tensor.spec.name == spec.name);
        let (dtype, bytes) = tensor.map_or((DType::F32, 0), |tensor| (tensor.dtype, tensor.bytes));
        Ok(TensorData { dtype, bytes: Cow::Owned(vec![0; bytes]) })
    }
}
