//! What is trained: all parameters of a model, or an adapter beside frozen weights.

use shakti_kernels::Cpu;
use shakti_model::{
    Adapter, Batch, Compute, Decoder, LayerFinished, LossSum, PackedWeights, Parameters, Targets, TrainPass,
    Weights,
};

use crate::TrainError;

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
    Adapter { base: Frozen, adapter: Box<Adapter> },
}

impl Learner {
    /// What is trained.
    pub fn params(&self) -> &Parameters {
        match self {
            Self::Model(params) => params,
            Self::Adapter { adapter, .. } => adapter.params(),
        }
    }

    /// The weights of a forward pass as serving would run it.
    pub fn weights(&self) -> Weights<'_> {
        match self {
            Self::Model(params) => Weights::dense(params),
            Self::Adapter { base, adapter } => base.weights().adapted(adapter),
        }
    }

    /// The adapter, if one is trained.
    pub fn adapter(&self) -> Option<&Adapter> {
        match self {
            Self::Model(_) => None,
            Self::Adapter { adapter, .. } => Some(adapter),
        }
    }

    /// Changes what is trained and brings what follows from it up to date.
    pub fn change<T>(
        &mut self,
        cpu: &Cpu,
        change: impl FnOnce(&mut Parameters) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        match self {
            Self::Model(params) => change(params),
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
        pair: (Batch<'_>, Targets<'_>),
        pass: TrainPass,
        grads: (&mut Parameters, LayerFinished<'_>),
    ) -> Result<LossSum, TrainError> {
        Ok(match self {
            Self::Model(params) => decoder.loss_and_gradients(compute, params, pair, pass, grads)?,
            Self::Adapter { .. } => decoder.adapter_gradients(compute, &self.weights(), pair, pass, grads)?,
        })
    }
}
