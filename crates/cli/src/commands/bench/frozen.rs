//! Frozen weights for `shakti bench train --lora-rank`: random, in f32 or in blocks that are made one tensor at a time.

use std::borrow::Cow;
use std::sync::Arc;

use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_measure::random_ids;
use shakti_model::{
    Adapter, LORA_TARGETS, Layout, LoraConfig, ModelConfig, PackedWeights, ParamSpec, Parameters, TensorData,
    TensorSource,
};
use shakti_quant::{FileType, Options, QuantizedModel, plan};
use shakti_train::Frozen;

use crate::failure::Failure;

/// Random values, each tensor made when it is asked for, so that the f32 model is never whole in memory.
struct RandomTensors;

impl TensorSource for RandomTensors {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        const STEPS: usize = 1 << 16;
        // Uniform with the deviation that initial weights have; norms at one.
        let value = |id: u32| {
            if spec.shape.len() == 1 { 1.0 } else { 0.07 * (id as f32 / STEPS as f32 - 0.5) }
        };
        let ids = random_ids(spec.num_elements(), STEPS, 1);
        let bytes = ids.into_iter().flat_map(|id| value(id).to_le_bytes()).collect();
        Ok(TensorData { dtype: DType::F32, bytes: Cow::Owned(bytes) })
    }
}

/// Random frozen weights and an adapter of this rank on all seven linear layers.
pub fn frozen(
    cpu: &Cpu,
    config: &ModelConfig,
    rank: u32,
    base_type: Option<&str>,
) -> Result<(Frozen, Adapter), Failure> {
    let base = match base_type {
        None => Frozen::Dense(Parameters::init(config, Arc::new(Layout::new(config)), 1)),
        Some(name) => {
            let plan = plan(config, name.parse::<FileType>()?, None);
            let blocks = QuantizedModel::new(cpu, &RandomTensors, &plan, Options::default(), |_| {})?;
            let blocks: Arc<dyn TensorSource + Send + Sync> = Arc::new(blocks);
            Frozen::Packed(Box::new(PackedWeights::load_as_stored(config, &blocks, cpu)?))
        }
    };
    let lora = LoraConfig {
        rank: rank as usize,
        alpha: 2.0 * rank as f32,
        dropout: 0.0,
        targets: LORA_TARGETS.map(str::to_owned).to_vec(),
        rslora: false,
        dora: false,
    };
    let adapter = Adapter::init(config, lora, 1, (cpu, &base.weights()))?;
    Ok((base, adapter))
}
