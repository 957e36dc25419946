//! What is trained: all parameters of a model, or an adapter beside frozen weights.

use std::cell::RefCell;

use shakti_checkpoint::Merged;
use shakti_kernels::Cpu;
use shakti_model::{
    Adapter, Batch, Compute, Decoder, End, LayerFinished, LossSum, ModelConfig, PackedWeights, Parameters,
    TensorSource, TrainPass, Weights,
};

use crate::TrainError;
use crate::qat::Grid;

/// Weights that an adapter is trained beside.
pub enum Frozen {
    /// f32 parameters in memory.
    Dense(Parameters),
    /// Blocks or floats, as a file stores them or repacked.
    Packed(Box<PackedWeights>),
}

impl Frozen {
    /// The view that a forward pass takes.
    pub fn weights(&self) -> Weights<'_> {
        match self {
            Self::Dense(params) => Weights::dense(params),
            Self::Packed(packed) => packed.weights(),
        }
    }
}

/// What a trainer changes, and what it needs besides.
pub(crate) enum Learner {
    Model(Parameters),
    Adapter {
        base: Frozen,
        adapter: Box<Adapter>,
    },
    /// All parameters, seen on a grid.
    ModelOnGrid {
        params: Parameters,
        grid: Box<Grid>,
    },
    /// An adapter, merged into the tensors of its base and then seen on a grid.
    AdapterOnGrid {
        source: Source,
        adapter: Box<Adapter>,
        grid: Box<Grid>,
        dense: RefCell<Parameters>,
    },
}

/// The tensors of the model that an adapter stands beside.
pub(crate) type Source = std::sync::Arc<dyn TensorSource + Send + Sync>;

impl Learner {
    /// The same, seen on a grid; an adapter is merged into the tensors of `source` for that.
    pub fn on_grid(self, grid: Grid, source: Option<Source>) -> Self {
        match (self, source) {
            (Self::Model(params), _) => Self::ModelOnGrid { params, grid: Box::new(grid) },
            (Self::Adapter { adapter, .. }, Some(source)) => {
                let dense = RefCell::new(Parameters::zeros(grid.values.layout().clone()));
                Self::AdapterOnGrid { source, adapter, grid: Box::new(grid), dense }
            }
            (other, _) => other,
        }
    }

    /// Puts what is trained on the grid of a step, if there is one.
    pub fn refresh_grid(&mut self, cpu: &Cpu, config: &ModelConfig, step: u64) -> Result<(), TrainError> {
        match self {
            Self::Model(_) | Self::Adapter { .. } => Ok(()),
            Self::ModelOnGrid { params, grid } => grid.refresh(cpu, params, step),
            Self::AdapterOnGrid { source, adapter, grid, .. } => {
                grid.refresh(cpu, &Merged::new(config, &**source, adapter, cpu), step)
            }
        }
    }

    /// What is trained.
    pub fn params(&self) -> &Parameters {
        match self {
            Self::Model(params) | Self::ModelOnGrid { params, .. } => params,
            Self::Adapter { adapter, .. } | Self::AdapterOnGrid { adapter, .. } => adapter.params(),
        }
    }

    /// The weights of a forward pass as serving would run it.
    pub fn weights(&self) -> Weights<'_> {
        match self {
            Self::Model(params) => Weights::dense(params),
            Self::Adapter { base, adapter } => base.weights().adapted(adapter),
            Self::ModelOnGrid { grid, .. } | Self::AdapterOnGrid { grid, .. } => Weights::dense(&grid.values),
        }
    }

    /// The adapter, if one is trained.
    pub fn adapter(&self) -> Option<&Adapter> {
        match self {
            Self::Model(_) | Self::ModelOnGrid { .. } => None,
            Self::Adapter { adapter, .. } | Self::AdapterOnGrid { adapter, .. } => Some(adapter),
        }
    }

    /// Changes what is trained and brings what follows from it up to date.
    pub fn change<T>(
        &mut self,
        cpu: &Cpu,
        change: impl FnOnce(&mut Parameters) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        match self {
            Self::Model(params) | Self::ModelOnGrid { params, .. } => change(params),
            // Without magnitudes nothing else depends on an adapter.
            Self::AdapterOnGrid { adapter, .. } => change(adapter.params_mut()),
            Self::Adapter { base, adapter } => {
                let result = change(adapter.params_mut())?;
                adapter.refresh(cpu, &base.weights());
                Ok(result)
            }
        }
    }

    /// Adds the gradients of one batch and returns its loss; the other half of `grads` is told of finished layers.
    pub fn gradients(
        &self,
        (decoder, compute): (&Decoder, Compute<'_>),
        pair: (Batch<'_>, End<'_>),
        pass: TrainPass,
        grads: (&mut Parameters, LayerFinished<'_>),
    ) -> Result<LossSum, TrainError> {
        Ok(match self {
            Self::Model(params) => decoder.loss_and_gradients(compute, params, pair, pass, grads)?,
            Self::Adapter { .. } => decoder.adapter_gradients(compute, &self.weights(), pair, pass, grads)?,
            Self::ModelOnGrid { grid, .. } => {
                decoder.loss_and_gradients(compute, &grid.values, pair, pass, grads)?
            }
            Self::AdapterOnGrid { adapter, grid, dense, .. } => {
                let mut dense = dense.borrow_mut();
                compute.cpu.clear(&mut dense.data);
                let mut ignore = |_: usize, _: &Parameters| {};
                let all: (_, LayerFinished<'_>) = (&mut *dense, &mut ignore);
                let loss = decoder.loss_and_gradients(compute, &grid.values, pair, pass, all)?;
                adapter.project(compute, &dense, grads.0);
                loss
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shakti_kernels::KernelSet;
    use shakti_model::{Layout, LoraConfig, Targets, preset};

    use super::*;

    #[test]
    fn a_change_brings_the_norms_of_dora_up_to_date() {
        let config = preset("shakti-nano").expect("a preset");
        let base = Parameters::init(&config, Arc::new(Layout::new(&config)), 1);
        let targets = vec!["q_proj".into()];
        let lora = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.0, targets, rslora: false, dora: true };
        let cpu = Cpu::new(KernelSet::best().expect("a kernel set"), 1);
        let adapter = Adapter::init(&config, lora, 1, (&cpu, &Weights::dense(&base))).expect("an adapter");
        let mut learner = Learner::Adapter { base: Frozen::Dense(base), adapter: Box::new(adapter) };
        let moved = learner.change(&cpu, |params| {
            params.data.iter_mut().for_each(|value| *value += 0.3);
            Ok(())
        });
        moved.expect("a change");
        let Learner::Adapter { base, adapter } = &learner else { unreachable!("made above") };
        let mut fresh = adapter.clone();
        fresh.refresh(&cpu, &base.weights());
        let decoder = Decoder::new(config).expect("a decoder");
        let compute = Compute { cpu: &cpu, precision: shakti_kernels::Precision::F32 };
        let batch = Batch { tokens: &[1, 2, 3], rows: &[0..3] };
        let targets = Targets { targets: &[2, 3, 4], weights: &[1.0; 3] };
        let loss = |weights: Weights<'_>| decoder.loss(compute, &weights, batch, targets).expect("a loss");
        assert_eq!(loss(learner.weights()), loss(base.weights().adapted(&fresh)), "as if made anew");
    }
}
