//! One update of the weights: gradient norm, health of the gradients, clipping, then AdamW or Muon.
//!
//! ```text
//! norm = sqrt(sum over tensors of sum_squares(g))        f64, tensors in state-dict order
//! g   *= min(1, clip_grad_norm / (norm + 1e-6))          as torch.nn.utils.clip_grad_norm_
//! AdamW or Muon on every tensor; weight decay on matrices only
//! ```
//!
//! Nothing here depends on the number of threads.

mod muon;
mod state;

use shakti_model::{Compute, Layout, ParamSpec, Parameters};

use crate::TrainError;
use crate::parallel::Parallel;
use crate::recipe::{AdamWSection, MuonSection, OptimizerKind, TrainSection};
use state::Step;
pub(crate) use state::{State, StateTensor};

/// Weight of the newest step in the running mean of gradient norms.
const NORM_MEAN_SHARE: f64 = 0.05;
/// Steps before a gradient norm counts as exploding; the first ones settle.
const SETTLING_STEPS: u64 = 20;

/// What a step does to the weights, fixed for a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// AdamW, with moments in 32 or 8 bits, or Muon.
    pub kind: OptimizerKind,
    /// Decay of the running means of gradient and squared gradient.
    pub betas: [f64; 2],
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Decay of matrices, relative to the learning rate.
    pub weight_decay: f64,
    /// What Muon needs besides.
    pub muon: MuonSection,
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
            kind: train.optimizer,
            betas: train.adamw.betas,
            eps: train.adamw.eps,
            weight_decay: train.adamw.weight_decay,
            muon: train.muon,
            clip_grad_norm: train.clip_grad_norm,
            max_grad_norm_ratio: train.max_grad_norm_ratio,
            dead_gradient_steps: train.dead_gradient_steps,
        }
    }
}

/// AdamW with the defaults of a recipe, and no check of gradients.
impl Default for OptimizerSettings {
    fn default() -> Self {
        let AdamWSection { betas, eps, weight_decay } = AdamWSection::default();
        Self {
            kind: OptimizerKind::AdamW,
            betas,
            eps,
            weight_decay,
            muon: MuonSection::default(),
            clip_grad_norm: 1.0,
            max_grad_norm_ratio: 0.0,
            dead_gradient_steps: 0,
        }
    }
}

/// What is remembered of each parameter, and of gradients to tell when they are ill.
#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    /// One for each parameter, in state-dict order; absent where another rank keeps it.
    states: Vec<Option<State>>,
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
        let specs = params.layout().specs();
        let memory = GradientMemory { zero_steps: vec![0; specs.len()], ..GradientMemory::default() };
        let states = specs.iter().map(|spec| Some(State::new(settings.kind, spec))).collect();
        Self { settings, states, memory }
    }

    /// Forgets the states of parameters that another rank keeps.
    pub(crate) fn keep(&mut self, keeps: impl Fn(usize) -> bool) {
        for (index, state) in self.states.iter_mut().enumerate() {
            if !keeps(index) {
                *state = None;
            }
        }
    }

    /// The state of one parameter as bytes, for another rank.
    pub(crate) fn state_bytes_of(&self, index: usize, spec: &ParamSpec) -> Vec<u8> {
        let tensors = self.states[index].iter().flat_map(|state| state.tensors(spec));
        tensors.flat_map(|tensor| tensor.values.bytes()).collect()
    }

    /// Takes what [`state_bytes_of`](Self::state_bytes_of) gave on another rank.
    pub(crate) fn take_state(&mut self, index: usize, spec: &ParamSpec, bytes: &[u8]) {
        let mut state = State::new(self.settings.kind, spec);
        let lens: Vec<usize> = state.tensors(spec).iter().map(|tensor| tensor.values.byte_len()).collect();
        let (mut lens, mut at) = (lens.into_iter(), 0);
        state.fill(|| {
            let start = at;
            at += lens.next().unwrap_or(0);
            bytes[start..at].to_vec()
        });
        self.states[index] = Some(state);
    }

    /// What a checkpoint holds of it, for parameters with these names and shapes; of those whose state it keeps.
    pub(crate) fn tensors<'a>(&'a self, specs: &'a [ParamSpec]) -> impl Iterator<Item = StateTensor<'a>> {
        let kept =
            |(state, spec): (&'a Option<State>, &'a ParamSpec)| state.as_ref().map(|state| (state, spec));
        self.states.iter().zip(specs).filter_map(kept).flat_map(|(state, spec)| state.tensors(spec))
    }

    /// Takes from a checkpoint what [`tensors`](Self::tensors) lists, in that order.
    pub(crate) fn fill(&mut self, mut bytes: impl FnMut() -> Vec<u8>) {
        self.states.iter_mut().flatten().for_each(|state| state.fill(&mut bytes));
    }

    /// Bytes of states that an optimizer of this kind keeps for parameters of these shapes.
    pub fn state_bytes(kind: OptimizerKind, specs: &[ParamSpec]) -> usize {
        specs.iter().map(|spec| state::byte_len(kind, spec)).sum()
    }

    /// Updates made so far.
    pub fn steps(&self) -> u64 {
        self.memory.steps
    }

    /// Applies one step to the parameters whose state it keeps and returns the norm of the gradient before clipping.
    ///
    /// # Errors
    /// A gradient that is not finite, explodes, or has been zero for too long; the weights are unchanged then.
    pub(crate) fn update(
        &mut self,
        compute: Compute<'_>,
        params: &mut Parameters,
        grads: &Parameters,
        (learning_rate, parallel): (f64, Option<&Parallel<'_>>),
    ) -> Result<f64, TrainError> {
        let layout = params.layout().clone();
        let square = |(index, state): (usize, &Option<State>)| {
            state.as_ref().map_or(0.0, |_| compute.cpu.sum_squares(grads.slice(index)))
        };
        let own: Vec<f64> = self.states.iter().enumerate().map(square).collect();
        let squares = parallel.map_or_else(|| own.clone(), |parallel| parallel.sum(&own));
        let norm = squares.iter().sum::<f64>().sqrt();
        self.examine(&layout, grads, &squares, norm)?;
        self.memory.steps += 1;
        let settings = &self.settings;
        let clip = settings.clip_grad_norm;
        let grad_scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let step = Step { settings, learning_rate, number: self.memory.steps, grad_scale };
        for (index, (spec, state)) in layout.specs().iter().zip(&mut self.states).enumerate() {
            let Some(state) = state else { continue };
            state.update(compute, (params.slice_mut(index), grads.slice(index)), &step, &spec.shape);
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
mod golden_tests;
#[cfg(test)]
pub(crate) mod tests;
