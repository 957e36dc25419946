//! One update of the weights: gradient norm, health of the gradients, clipping, AdamW.
//!
//! ```text
//! norm = sqrt(sum over tensors of sum_squares(g))        f64, tensors in state-dict order
//! g   *= min(1, clip_grad_norm / (norm + 1e-6))          as torch.nn.utils.clip_grad_norm_
//! AdamW on every tensor; weight decay on matrices only
//! ```
//!
//! Nothing here depends on the number of threads.

use shakti_kernels::{AdamWStep, Cpu};
use shakti_model::{Layout, Parameters};

use crate::TrainError;
use crate::recipe::TrainSection;

/// Weight of the newest step in the running mean of gradient norms.
const NORM_MEAN_SHARE: f64 = 0.05;
/// Steps before a gradient norm counts as exploding; the first ones settle.
const SETTLING_STEPS: u64 = 20;

/// What a step does to the weights, fixed for a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// Decay of the running means of gradient and squared gradient.
    pub betas: [f64; 2],
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Decay of matrices, relative to the learning rate.
    pub weight_decay: f64,
    /// Largest gradient norm that is applied; 0: any.
    pub clip_grad_norm: f64,
    /// Largest gradient norm relative to the running mean; 0: any.
    pub max_grad_norm_ratio: f64,
    /// Steps in a row with a gradient of exactly 0 that end the run; 0: any number.
    pub dead_gradient_steps: u64,
}

impl From<&TrainSection> for OptimizerSettings {
    fn from(train: &TrainSection) -> Self {
        Self {
            betas: train.adamw.betas,
            eps: train.adamw.eps,
            weight_decay: train.adamw.weight_decay,
            clip_grad_norm: train.clip_grad_norm,
            max_grad_norm_ratio: train.max_grad_norm_ratio,
            dead_gradient_steps: train.dead_gradient_steps,
        }
    }
}

/// AdamW with its two running means, and what is remembered of gradients to tell when they are ill.
#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    /// Running mean of the gradient (`exp_avg`).
    pub(crate) m: Parameters,
    /// Running mean of the squared gradient (`exp_avg_sq`).
    pub(crate) v: Parameters,
    pub(crate) memory: GradientMemory,
}

/// What is remembered of earlier gradients; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GradientMemory {
    /// Updates made.
    pub steps: u64,
    /// Running mean of the gradient norm.
    pub usual_norm: f64,
    /// Per tensor: steps in a row with a gradient of exactly 0.
    pub zero_steps: Vec<u64>,
}

impl Optimizer {
    /// An optimizer before its first step, for parameters of one layout.
    pub fn new(params: &Parameters, settings: OptimizerSettings) -> Self {
        let zeros = || Parameters::zeros(params.layout().clone());
        let zero_steps = vec![0; params.layout().specs().len()];
        let memory = GradientMemory { zero_steps, ..GradientMemory::default() };
        Self { settings, m: zeros(), v: zeros(), memory }
    }

    /// Updates made so far.
    pub fn steps(&self) -> u64 {
        self.memory.steps
    }

    /// Applies one step and returns the norm of the gradient before clipping.
    ///
    /// # Errors
    /// A gradient that is not finite, explodes, or has been zero for too long; the weights are unchanged then.
    pub fn update(
        &mut self,
        cpu: &Cpu,
        params: &mut Parameters,
        grads: &Parameters,
        learning_rate: f64,
    ) -> Result<f64, TrainError> {
        let layout = params.layout().clone();
        let squares: Vec<f64> =
            (0..layout.specs().len()).map(|index| cpu.sum_squares(grads.slice(index))).collect();
        let norm = squares.iter().sum::<f64>().sqrt();
        self.examine(&layout, grads, &squares, norm)?;
        self.memory.steps += 1;
        let settings = &self.settings;
        let clip = settings.clip_grad_norm;
        let scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        for (index, spec) in layout.specs().iter().enumerate() {
            let step = AdamWStep {
                learning_rate: learning_rate as f32,
                beta1: settings.betas[0] as f32,
                beta2: settings.betas[1] as f32,
                eps: settings.eps as f32,
                weight_decay: if spec.shape.len() > 1 { settings.weight_decay as f32 } else { 0.0 },
                step: self.memory.steps,
                grad_scale: scale as f32,
            };
            let (m, v) = (self.m.slice_mut(index), self.v.slice_mut(index));
            cpu.adamw(params.slice_mut(index), grads.slice(index), m, v, &step);
        }
        Ok(norm)
    }

    /// Refuses ill gradients and remembers healthy ones.
    fn examine(
        &mut self,
        layout: &Layout,
        grads: &Parameters,
        squares: &[f64],
        norm: f64,
    ) -> Result<(), TrainError> {
        let step = self.memory.steps + 1;
        let name = |index: usize| layout.specs()[index].name.clone();
        if let Some(index) = squares.iter().position(|sum| !sum.is_finite()) {
            let found = grads.slice(index).iter().copied().find(|value| !value.is_finite());
            // Without one, the squares of finite values overflowed.
            let value = found.unwrap_or(f32::INFINITY);
            return Err(TrainError::NonFiniteGradient { step, tensor: name(index), value });
        }
        let (usual, limit) = (self.memory.usual_norm, self.settings.max_grad_norm_ratio);
        if limit > 0.0 && self.memory.steps >= SETTLING_STEPS && norm > limit * usual {
            let largest = (0..squares.len()).max_by(|a, b| squares[*a].total_cmp(&squares[*b])).unwrap_or(0);
            let (tensor, tensor_norm) = (name(largest), squares[largest].sqrt());
            return Err(TrainError::ExplodingGradient { step, norm, usual, limit, tensor, tensor_norm });
        }
        for (count, sum) in self.memory.zero_steps.iter_mut().zip(squares) {
            *count = if *sum == 0.0 { *count + 1 } else { 0 };
        }
        let dead = self.settings.dead_gradient_steps;
        if let Some(index) = self.memory.zero_steps.iter().position(|count| dead > 0 && *count >= dead) {
            return Err(TrainError::DeadGradient { step, tensor: name(index), steps: dead });
        }
        let share = if self.memory.steps == 0 { 1.0 } else { NORM_MEAN_SHARE };
        self.memory.usual_norm += share * (norm - usual);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
