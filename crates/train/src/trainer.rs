//! One training step: gradients of a few micro-batches, summed, then one update of the weights.

use std::ops::Range;

use shakti_data::Batch as DataBatch;
use shakti_kernels::{Cpu, Precision};
use shakti_model::{Batch, Compute, Decoder, LossSum, ModelConfig, Parameters, Targets, TrainPass, Weights};

use crate::TrainError;
use crate::optimizer::{Optimizer, OptimizerSettings};
use crate::schedule::Schedule;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean nats per counted target, before the update.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Input tokens of the step.
    pub tokens: u64,
}

/// What a trainer needs to know besides the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainerSettings {
    /// The optimizer.
    pub optimizer: OptimizerSettings,
    /// Multipliers of `peak_learning_rate`.
    pub schedule: Schedule,
    /// Largest learning rate.
    pub peak_learning_rate: f64,
    /// Arithmetic of matrix products.
    pub precision: Precision,
    /// Seed of dropout.
    pub seed: u64,
}

/// A model in training: weights, gradients and optimizer.
pub struct Trainer<'a> {
    cpu: &'a Cpu,
    decoder: Decoder,
    settings: TrainerSettings,
    pub(crate) params: Parameters,
    grads: Parameters,
    pub(crate) optimizer: Optimizer,
}

impl<'a> Trainer<'a> {
    /// A trainer before its first step.
    ///
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn new(
        cpu: &'a Cpu,
        config: ModelConfig,
        params: Parameters,
        settings: TrainerSettings,
    ) -> Result<Self, TrainError> {
        let decoder = Decoder::new(config)?;
        let grads = Parameters::zeros(params.layout().clone());
        let optimizer = Optimizer::new(&params, settings.optimizer);
        Ok(Self { cpu, decoder, settings, params, grads, optimizer })
    }

    /// The weights.
    pub fn params(&self) -> &Parameters {
        &self.params
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// Replaces the learning-rate schedule.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.settings.schedule = schedule;
    }

    /// Back to the moment before the first step, with these weights.
    pub(crate) fn reset(&mut self, params: Parameters) {
        self.optimizer = Optimizer::new(&params, self.settings.optimizer);
        self.params = params;
    }

    /// One step on the micro-batches together: the gradient is that of their mean loss, as if they were one batch.
    ///
    /// # Errors
    /// Batches that do not fit the model or count no target; a loss or gradient that is not finite; gradients that
    /// explode or died. The weights are unchanged then.
    pub fn step(&mut self, batches: &[DataBatch]) -> Result<StepResult, TrainError> {
        let step = self.steps() + 1;
        let total: f64 =
            batches.iter().flat_map(|batch| &batch.weights).map(|weight| f64::from(*weight)).sum();
        if total <= 0.0 {
            let problem = format!("step {step}: no target counts in the loss");
            return Err(TrainError::Data { key: "data.sources".into(), problem });
        }
        let compute = Compute { cpu: self.cpu, precision: self.settings.precision };
        self.grads.data.fill(0.0);
        let (mut sum, mut tokens) = (LossSum::default(), 0);
        for (micro, batch) in batches.iter().enumerate() {
            let rows = rows(batch);
            let pass = TrainPass {
                grad_scale: (1.0 / total) as f32,
                dropout_seed: dropout_seed(self.settings.seed, step, micro as u64),
            };
            let pair = (model_batch(batch, &rows), targets(batch));
            let loss = self.decoder.loss_and_gradients(compute, &self.params, pair, pass, &mut self.grads)?;
            sum.nats += loss.nats;
            sum.weight += loss.weight;
            tokens += batch.tokens.len() as u64;
        }
        let loss = sum.mean();
        if !loss.is_finite() {
            let tensor = self.non_finite_parameter();
            return Err(TrainError::NonFiniteLoss { step, loss, tensor });
        }
        let learning_rate = self.settings.peak_learning_rate * self.settings.schedule.multiplier(step);
        let grad_norm = self.optimizer.update(compute, &mut self.params, &self.grads, learning_rate)?;
        Ok(StepResult { step, loss, grad_norm, learning_rate, tokens })
    }

    /// The loss of held-out batches.
    ///
    /// # Errors
    /// Batches that do not fit the model.
    pub fn validate(&self, batches: &[DataBatch]) -> Result<LossSum, TrainError> {
        let compute = Compute { cpu: self.cpu, precision: self.settings.precision };
        let weights = Weights::dense(&self.params);
        let mut sum = LossSum::default();
        for batch in batches {
            let rows = rows(batch);
            let loss = self.decoder.loss(compute, &weights, model_batch(batch, &rows), targets(batch))?;
            sum.nats += loss.nats;
            sum.weight += loss.weight;
        }
        Ok(sum)
    }

    fn non_finite_parameter(&self) -> Option<String> {
        let specs = self.params.layout().specs();
        let index =
            (0..specs.len()).find(|index| self.params.slice(*index).iter().any(|value| !value.is_finite()));
        index.map(|index| specs[index].name.clone())
    }
}

fn rows(batch: &DataBatch) -> Vec<Range<usize>> {
    batch.segments.iter().map(|segment| segment.start..segment.start + segment.len).collect()
}

fn model_batch<'a>(batch: &'a DataBatch, rows: &'a [Range<usize>]) -> Batch<'a> {
    Batch { tokens: &batch.tokens, rows }
}

fn targets(batch: &DataBatch) -> Targets<'_> {
    Targets { targets: &batch.targets, weights: &batch.weights }
}

/// SplitMix64 over (seed, step, micro-batch), so that no state has to be saved.
fn dropout_seed(seed: u64, step: u64, micro: u64) -> u64 {
    mix(mix(mix(seed) ^ step) ^ micro)
}

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
