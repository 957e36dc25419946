//! One training step: gradients of a few micro-batches, summed, then one update of the weights.

use std::ops::Range;

use shakti_checkpoint::Merged;
use shakti_data::Batch as DataBatch;
use shakti_kernels::{Cpu, Precision, Work};
use shakti_model::{
    Adapter, Batch, Compute, Decoder, End, LayerFinished, LossSum, ModelConfig, Outputs, Parameters, Targets,
    Teacher, TensorSource, TrainPass, Weights,
};

use crate::TrainError;
use crate::learner::{Frozen, Learner, Source};
use crate::optimizer::{Optimizer, OptimizerSettings};
use crate::parallel::{Parallel, Sums};
use crate::qat::Grid;
use crate::ranks::Ranks;
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
    /// Keep only the input of each layer and compute the rest again in the backward pass.
    pub recompute: bool,
}

/// A model in training: weights, gradients and optimizer.
pub struct Trainer<'a> {
    cpu: &'a Cpu,
    decoder: Decoder,
    settings: TrainerSettings,
    pub(crate) learner: Learner,
    grads: Parameters,
    pub(crate) optimizer: Optimizer,
    /// Absent where this process trains alone.
    parallel: Option<Parallel<'a>>,
    /// The tensors that an adapter stands beside, where something needs them merged.
    source: Option<Source>,
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
        Self::of(cpu, config, Learner::Model(params), settings)
    }

    /// A trainer of an adapter beside frozen weights of the same configuration.
    ///
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn of_adapter(
        cpu: &'a Cpu,
        config: ModelConfig,
        (base, adapter): (Frozen, Adapter),
        settings: TrainerSettings,
    ) -> Result<Self, TrainError> {
        Self::of(cpu, config, Learner::Adapter { base, adapter: Box::new(adapter) }, settings)
    }

    fn of(
        cpu: &'a Cpu,
        config: ModelConfig,
        learner: Learner,
        settings: TrainerSettings,
    ) -> Result<Self, TrainError> {
        let decoder = Decoder::new(config)?;
        let grads = Parameters::zeros(learner.params().layout().clone());
        let optimizer = Optimizer::new(learner.params(), settings.optimizer);
        Ok(Self { cpu, decoder, settings, learner, grads, optimizer, parallel: None, source: None })
    }

    /// Keeps the tensors that an adapter stands beside, so that both can be merged.
    pub(crate) fn keep_source(&mut self, source: Source) {
        self.source = Some(source);
    }

    /// From now on passes see the weights on a grid.
    pub(crate) fn train_on(self, grid: Grid) -> Result<Self, TrainError> {
        let learner = self.learner.on_grid(grid, self.source.clone());
        let mut trainer = Self { learner, ..self };
        trainer.refresh_grid()?;
        Ok(trainer)
    }

    fn refresh_grid(&mut self) -> Result<(), TrainError> {
        let step = self.steps() + 1;
        self.learner.refresh_grid(self.cpu, self.decoder.config(), step)
    }

    /// Hands out the tensors of the model as serving would see it: with an adapter merged, on the grid if there is one.
    ///
    /// # Errors
    /// An adapter whose base's tensors were not kept.
    pub(crate) fn with_tensors<T>(&self, take: impl FnOnce(&dyn TensorSource) -> T) -> Result<T, TrainError> {
        match (&self.learner, &self.source) {
            (Learner::Model(params), _) => Ok(take(params)),
            (Learner::ModelOnGrid { grid, .. } | Learner::AdapterOnGrid { grid, .. }, _) => {
                Ok(take(&grid.values))
            }
            (Learner::Adapter { adapter, .. }, Some(source)) => {
                Ok(take(&Merged::new(self.decoder.config(), &**source, adapter, self.cpu)))
            }
            (Learner::Adapter { .. }, None) => {
                let problem = "an adapter beside weights that are in no file cannot be sampled".into();
                Err(TrainError::Data { key: "lora".into(), problem })
            }
        }
    }

    /// Trains together with other ranks that have the same model, settings and batches.
    pub fn join(&mut self, ranks: &'a dyn Ranks) {
        let parallel = Parallel::new(ranks, self.params().layout());
        self.optimizer.keep(|index| parallel.owns(index));
        self.parallel = Some(parallel);
    }

    /// Whether this process writes the run.
    pub(crate) fn leads(&self) -> bool {
        self.parallel.as_ref().is_none_or(Parallel::leads)
    }

    /// Whether no other process trains with this one.
    pub(crate) fn alone(&self) -> bool {
        self.parallel.is_none()
    }

    /// Rank 0's number, for all.
    pub(crate) fn agree(&self, number: f64) -> f64 {
        self.parallel.as_ref().map_or(number, |parallel| parallel.first(number))
    }

    /// Whether it holds for any rank.
    pub(crate) fn any(&self, holds: bool) -> bool {
        self.parallel.as_ref().map_or(holds, |parallel| parallel.sum(&[f64::from(u8::from(holds))])[0] > 0.0)
    }

    /// Brings the whole state of the optimizer to rank 0, until [`part`](Self::part).
    pub(crate) fn collect(&mut self) {
        if let Some(parallel) = &self.parallel {
            let layout = self.learner.params().layout().clone();
            parallel.collect(&mut self.optimizer, &layout);
        }
    }

    /// Forgets the optimizer's state of what other ranks own.
    pub(crate) fn part(&mut self) {
        if let Some(parallel) = &self.parallel {
            self.optimizer.keep(|index| parallel.owns(index));
        }
    }

    /// What is trained: the weights, or the adapter's.
    pub fn params(&self) -> &Parameters {
        self.learner.params()
    }

    /// The adapter, if one is trained.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.learner.adapter()
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
    pub(crate) fn reset(&mut self, params: &Parameters) -> Result<(), TrainError> {
        self.optimizer = Optimizer::new(params, self.settings.optimizer);
        self.part();
        self.set_params(params)
    }

    /// Replaces what is trained by values of the same layout.
    pub(crate) fn set_params(&mut self, params: &Parameters) -> Result<(), TrainError> {
        self.learner.change(self.cpu, |trained| {
            trained.data.copy_from_slice(&params.data);
            Ok(())
        })?;
        self.refresh_grid()
    }

    /// One step on the micro-batches together: the gradient is that of their mean loss, as if they were one batch. Several
    /// ranks share them out.
    ///
    /// # Errors
    /// Batches that do not fit the model or count no target; a loss or gradient that is not finite; gradients that
    /// explode or died. The weights are unchanged then.
    pub fn step(&mut self, batches: &[DataBatch]) -> Result<StepResult, TrainError> {
        let total: f64 =
            batches.iter().flat_map(|batch| &batch.weights).map(|weight| f64::from(*weight)).sum();
        if total <= 0.0 {
            let problem = format!("step {}: no target counts in the loss", self.steps() + 1);
            return Err(TrainError::Data { key: "data.sources".into(), problem });
        }
        self.begin();
        let parallel = self.parallel.as_ref();
        let own = |micro: &usize| parallel.is_none_or(|parallel| parallel.computes(*micro));
        let last = (0..batches.len()).rfind(own);
        let (mut sum, mut sums) = (LossSum::default(), Sums::default());
        for (micro, batch) in batches.iter().enumerate().filter(|(micro, _)| own(micro)) {
            let mut finished = |layer: usize, grads: &Parameters| {
                if let Some(parallel) = parallel.filter(|_| last == Some(micro)) {
                    parallel.begin(&mut sums, layer, grads);
                }
            };
            let pass = self.pass(micro, (1.0 / total) as f32);
            let grads = (&mut self.grads, &mut finished as LayerFinished<'_>);
            let run = (&self.decoder, Compute { cpu: self.cpu, precision: self.settings.precision });
            let loss = add_gradients(&self.learner, run, (batch, targets(batch).into()), pass, grads)?;
            sum.nats += loss.nats;
            sum.weight += loss.weight;
        }
        if let Some(parallel) = parallel {
            parallel.finish(sums, &mut self.grads);
            sum = parallel.loss(sum);
        }
        let tokens = batches.iter().map(|batch| batch.tokens.len() as u64).sum();
        self.update(sum.mean(), tokens)
    }

    /// Forgets the gradients of the last step. A step that several ends share begins here, adds what each gives, and ends
    /// with [`Trainer::update`].
    pub(crate) fn begin(&mut self) {
        let _counting = self.cpu.clock.count(Work::Update);
        self.cpu.clear(&mut self.grads.data);
    }

    /// Adds `scale` times the gradients of what a batch ends with, which is batch number `micro` of the step.
    ///
    /// # Errors
    /// Batches that do not fit the model.
    pub(crate) fn add(
        &mut self,
        (micro, batch): (usize, &DataBatch),
        scale: f32,
        end: End<'_>,
    ) -> Result<LossSum, TrainError> {
        let pass = self.pass(micro, scale);
        let run = (&self.decoder, Compute { cpu: self.cpu, precision: self.settings.precision });
        let mut finished = |_: usize, _: &Parameters| {};
        let grads = (&mut self.grads, &mut finished as LayerFinished<'_>);
        add_gradients(&self.learner, run, (batch, end), pass, grads)
    }

    fn pass(&self, micro: usize, grad_scale: f32) -> TrainPass {
        TrainPass {
            grad_scale,
            dropout_seed: dropout_seed(self.settings.seed, self.steps() + 1, micro as u64),
            recompute: self.settings.recompute,
        }
    }

    /// One update of the weights by the gradients that were added; `loss` is what they are of.
    ///
    /// # Errors
    /// A loss or gradient that is not finite; gradients that explode or died. The weights are unchanged then.
    pub(crate) fn update(&mut self, loss: f64, tokens: u64) -> Result<StepResult, TrainError> {
        let (step, compute) =
            (self.steps() + 1, Compute { cpu: self.cpu, precision: self.settings.precision });
        if !loss.is_finite() {
            let tensor = self.non_finite_parameter();
            return Err(TrainError::NonFiniteLoss { step, loss, tensor });
        }
        let _counting = self.cpu.clock.count(Work::Update);
        let learning_rate = self.settings.peak_learning_rate * self.settings.schedule.multiplier(step);
        let Self { cpu, learner, optimizer, grads, parallel, .. } = self;
        let parallel = parallel.as_ref();
        let grad_norm = learner.change(cpu, |params| {
            let norm = optimizer.update(compute, params, grads, (learning_rate, parallel))?;
            if let Some(parallel) = parallel {
                parallel.share(params);
            }
            Ok(norm)
        })?;
        self.refresh_grid()?;
        Ok(StepResult { step, loss, grad_norm, learning_rate, tokens })
    }

    /// The loss of held-out batches; blocks are multiplied as serving does.
    ///
    /// # Errors
    /// Batches that do not fit the model.
    pub fn validate(&self, batches: &[DataBatch]) -> Result<LossSum, TrainError> {
        let compute = Compute { cpu: self.cpu, precision: self.settings.precision };
        let weights = self.learner.weights();
        let mut sum = LossSum::default();
        let parallel = self.parallel.as_ref();
        let own = |index: usize| parallel.is_none_or(|parallel| parallel.computes(index));
        for (_, batch) in batches.iter().enumerate().filter(|(index, _)| own(*index)) {
            let rows = rows(batch);
            let loss = self.decoder.loss(compute, &weights, model_batch(batch, &rows), targets(batch))?;
            sum.nats += loss.nats;
            sum.weight += loss.weight;
        }
        Ok(parallel.map_or(sum, |parallel| parallel.loss(sum)))
    }

    /// SHA-256 of what is trained and of the configuration, to know again what was computed with it.
    pub(crate) fn reference_sha256(&self) -> String {
        let params: Vec<u8> = self.params().data.iter().flat_map(|value| value.to_le_bytes()).collect();
        let both = self.config().to_json() + &shakti_checkpoint::files::sha256_bytes(&params);
        shakti_checkpoint::files::sha256_bytes(both.as_bytes())
    }

    /// Log-probabilities of a batch's targets, and values, by the weights as they are.
    ///
    /// # Errors
    /// A batch that does not fit the model.
    pub(crate) fn outputs(&self, batch: &DataBatch) -> Result<Outputs, TrainError> {
        let compute = Compute { cpu: self.cpu, precision: self.settings.precision };
        let rows = rows(batch);
        let weights = self.learner.weights();
        Ok(self.decoder.outputs(compute, &weights, model_batch(batch, &rows), targets(batch))?)
    }

    /// How far the weights as they are lie from a teacher on a batch.
    ///
    /// # Errors
    /// A batch or teacher that does not fit the model.
    pub(crate) fn teacher_loss(
        &self,
        batch: &DataBatch,
        teacher: Teacher<'_>,
    ) -> Result<LossSum, TrainError> {
        let compute = Compute { cpu: self.cpu, precision: self.settings.precision };
        let rows = rows(batch);
        let weights = self.learner.weights();
        Ok(self.decoder.teacher_loss(compute, &weights, model_batch(batch, &rows), teacher)?)
    }

    /// [`Trainer::outputs`] by the policy that the run began with: these weights, or what the adapter stands beside.
    ///
    /// # Errors
    /// As [`Trainer::outputs`].
    pub(crate) fn reference_outputs(
        &self,
        reference: Option<&Parameters>,
        batch: &DataBatch,
    ) -> Result<Outputs, TrainError> {
        let compute = Compute { cpu: self.cpu, precision: self.settings.precision };
        let rows = rows(batch);
        let weights = match (reference, &self.learner) {
            (Some(params), _) => Weights::dense(params),
            (None, Learner::Adapter { base, .. }) => base.weights(),
            (None, _) => return self.outputs(batch),
        };
        Ok(self.decoder.outputs(compute, &weights, model_batch(batch, &rows), targets(batch))?)
    }

    fn non_finite_parameter(&self) -> Option<String> {
        let params = self.learner.params();
        let specs = params.layout().specs();
        let index =
            (0..specs.len()).find(|index| params.slice(*index).iter().any(|value| !value.is_finite()));
        index.map(|index| specs[index].name.clone())
    }
}

/// Adds the gradients of what one batch ends with.
fn add_gradients(
    learner: &Learner,
    run: (&Decoder, Compute<'_>),
    (batch, end): (&DataBatch, End<'_>),
    pass: TrainPass,
    grads: (&mut Parameters, LayerFinished<'_>),
) -> Result<LossSum, TrainError> {
    let rows = rows(batch);
    learner.gradients(run, (model_batch(batch, &rows), end), pass, grads)
}

pub(crate) fn rows(batch: &DataBatch) -> Vec<Range<usize>> {
    batch.segments.iter().map(|segment| segment.start..segment.start + segment.len).collect()
}

fn model_batch<'a>(batch: &'a DataBatch, rows: &'a [Range<usize>]) -> Batch<'a> {
    Batch { tokens: &batch.tokens, rows }
}

pub(crate) fn targets(batch: &DataBatch) -> Targets<'_> {
    Targets { targets: &batch.targets, weights: &batch.weights }
}

/// A number that a seed and a step determine.
pub(crate) fn draw(seed: u64, step: u64) -> u64 {
    mix(mix(seed) ^ step)
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
