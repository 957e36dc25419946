//! Our native models beside dense ones with uniform KV heads, otherwise the same, both of random weights.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Context;
use shakti_engine::Network;
use shakti_kernels::Cpu;
use shakti_kernels::blocks::quantize_row;
use shakti_measure::{Cell as Work, Meter, Speedometer};
use shakti_model::{LayerType, ModelConfig, ParamSpec, TensorData, TensorSource, preset};
use shakti_quant::{TensorPlan, plan};

use crate::alternate::{Contestant, Sample, alternate};
use crate::cells::{Key, SHORT_DECODE, Table};
use crate::record::{Cell, Run};

/// Measures both in this process, in alternation.
pub fn measure(key: &Key, rounds: u32) -> anyhow::Result<Cell> {
    let depth = key.depth.context("twins have a depth")?;
    let cpu = Arc::new(Cpu::detect(Some(key.threads))?);
    let work = match key.table {
        Table::TwinsPrefill => Work { prompt: depth, generate: 1, depth: 0, batch: 1 },
        _ => Work { prompt: 1, generate: SHORT_DECODE, depth, batch: 1 },
    };
    let native = preset(&format!("shakti-{}", key.model))?;
    let mut contestants = Vec::new();
    for (name, config) in [("native", native.clone()), ("dense", dense_twin(&native))] {
        let plan = plan(&config, key.format.parse()?, None);
        let network = Arc::new(Network::load(config.clone(), &Random { plan: &plan }, cpu.clone())?);
        let mut speed = Speedometer::new(&network, work);
        // The first run is not counted.
        time(&mut speed, work)?;
        contestants.push(Contestant {
            family: name,
            run: Run::new(name, describe(&config)),
            sample: Box::new(move || {
                let value = time(&mut speed, work)?;
                Ok(Sample { value, kv_bytes: Some(speed.cache_bytes() as u64), ..Sample::default() })
            }),
        });
    }
    let (runs, _) = alternate(contestants, rounds, false);
    let note = runs.iter().map(|run| format!("{}: {}", run.name, run.command)).collect::<Vec<_>>().join("; ");
    Ok(Cell {
        key: key.clone(),
        runs,
        bound: None,
        not_got: None,
        note: Some(format!("{}, {note}", key.model)),
    })
}

/// Tokens per second of one run.
fn time(speed: &mut Speedometer, work: Work) -> anyhow::Result<f64> {
    let meter = Meter::default();
    let (tokens, usage) = match work.depth {
        0 => (work.prompt, speed.prefill(&meter)?),
        _ => (work.generate, speed.decode(&meter)?),
    };
    Ok(tokens as f64 / usage.seconds)
}

/// The same shape with full attention and as many KV heads in every layer as the native one has at most.
fn dense_twin(native: &ModelConfig) -> ModelConfig {
    let layers = native.num_hidden_layers;
    let kv_heads = native.num_kv_heads.iter().copied().max().unwrap_or(native.num_attention_heads);
    ModelConfig {
        num_kv_heads: vec![kv_heads; layers],
        layer_types: vec![LayerType::FullAttention; layers],
        ..native.clone()
    }
}

fn describe(config: &ModelConfig) -> String {
    let kind = config.layer_types.first().map_or("no layers", |kind| kind.name());
    let window = match config.layer_types.contains(&LayerType::SlidingAttention) {
        true => format!(" of {}", config.sliding_window),
        false => String::new(),
    };
    let heads: usize = config.num_kv_heads.iter().sum();
    format!("{kind}{window}, {heads} KV heads of {} in {} layers", config.head_dim, config.num_hidden_layers)
}

/// Random weights in the formats of a plan; norms are 1.
struct Random<'a> {
    plan: &'a [TensorPlan],
}

impl TensorSource for Random<'_> {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let index = self.plan.iter().position(|tensor| tensor.spec.name == spec.name);
        let index = index.ok_or_else(|| format!("no plan for {}", spec.name))?;
        let TensorPlan { dtype, .. } = self.plan[index];
        let cols = spec.shape.last().copied().unwrap_or(1);
        let is_norm = spec.shape.len() == 1;
        let mut state = index as u64 + 1;
        let mut bytes = vec![0; dtype.matrix_bytes(spec.num_elements() / cols, cols)?];
        let mut row = vec![1.0; cols];
        for out in bytes.chunks_exact_mut(dtype.row_bytes(cols)?) {
            if !is_norm {
                row.fill_with(|| uniform(&mut state));
            }
            quantize_row(dtype, &row, out)?;
        }
        Ok(TensorData { dtype, bytes: Cow::Owned(bytes) })
    }
}

/// Uniform in ±0.05, about the standard deviation of fresh weights.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twin_is_dense_and_uniform_and_weights_are_not_zero() {
        let native = preset("shakti-nano").expect("a preset");
        let twin = dense_twin(&native);
        assert_eq!(twin.num_kv_heads, [4; 6]);
        assert!(twin.layer_types.iter().all(|kind| *kind == LayerType::FullAttention));
        assert_eq!(describe(&twin), "full_attention, 24 KV heads of 32 in 6 layers");
        let plan = plan(&native, "q4_0".parse().expect("a type"), None);
        let source = Random { plan: &plan };
        let spec = plan.iter().find(|tensor| tensor.spec.name.contains("q_proj")).expect("a projection");
        let tensor = source.tensor(&spec.spec).expect("weights");
        assert_eq!(tensor.bytes.len(), spec.bytes);
        assert!(tensor.bytes.windows(64).all(|bytes| bytes.iter().any(|byte| *byte != bytes[0])));
    }
}
