//! Cross entropy over the output head, in chunks of rows, so that `[N, V]` logits are never whole in memory;
//! and the whole forward and backward pass of a training step.

use shakti_kernels::{Buffer, Cpu, Work};

use crate::decoder::{Batch, Decoder};
use crate::ends::End;
use crate::layers::{Compute, linear};
use crate::params::{Gradients, Parameters, Place};
use crate::weights::{LinearWeight, Weights};
use crate::{ModelConfig, ModelError};

/// Logits that one chunk may hold; 64 MiB. The head is packed for every chunk, so small ones cost time.
const CHUNK_ELEMENTS: usize = 16 << 20;
/// Rows of a chunk at most: enough that packing the head costs little beside multiplying with it.
const CHUNK_ROWS: usize = 512;

/// What a batch should predict.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// Next token of each row `[N]`; ignored where the weight is 0.
    pub targets: &'a [u32],
    /// Weight of each row's loss `[N]`; 0 leaves it out.
    pub weights: &'a [f32],
}

/// A summed loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum of `weight * nats`.
    pub nats: f64,
    /// Sum of weights.
    pub weight: f64,
}

impl LossSum {
    /// Mean nats per unit of weight.
    pub fn mean(&self) -> f64 {
        self.nats / self.weight
    }
}

/// Settings of one forward and backward pass.
#[derive(Clone, Copy, Debug)]
pub struct TrainPass {
    /// Multiplies every gradient, e.g. one over the weights of an accumulated step.
    pub grad_scale: f32,
    /// Determines which elements dropout drops.
    pub dropout_seed: u64,
    /// Remember only the input of each layer and compute the rest again in the backward pass: less memory, more time, the
    /// same bits.
    pub recompute: bool,
}

/// Told of each layer, from the last to the first, when the backward pass has added the last of its gradients.
pub type LayerFinished<'a> = &'a mut dyn FnMut(usize, &Parameters);

impl Decoder {
    /// Adds the gradients of `grad_scale` times what the batch ends with (of targets: `sum(weight * nats)`) to `grads` and
    /// returns the loss; 0 for an objective, which knows its own.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; targets outside the vocabulary.
    pub fn loss_and_gradients<'a>(
        &self,
        compute: Compute<'_>,
        params: &Parameters,
        (batch, end): (Batch<'_>, impl Into<End<'a>>),
        pass: TrainPass,
        (grads, finished): (&mut Parameters, LayerFinished<'_>),
    ) -> Result<LossSum, ModelError> {
        let grads = (Gradients::Model(grads), finished);
        self.train_pass(compute, &Weights::dense(params), (batch, end.into()), pass, grads)
    }

    /// The same for the adapter of `weights`, all else frozen; `grads` has the layout of its parameters.
    ///
    /// Blocks are multiplied by their f32 values in the precision of `compute`, forward as well, so these are the
    /// gradients of the loss that is returned. Serving rounds activations to 8 bits besides.
    ///
    /// # Errors
    /// As [`Decoder::loss_and_gradients`].
    ///
    /// # Panics
    /// If `weights` has no adapter.
    pub fn adapter_gradients<'a>(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (batch, end): (Batch<'_>, impl Into<End<'a>>),
        pass: TrainPass,
        (grads, finished): (&mut Parameters, LayerFinished<'_>),
    ) -> Result<LossSum, ModelError> {
        assert!(weights.adapter().is_some(), "weights without an adapter");
        self.train_pass(compute, weights, (batch, end.into()), pass, (Gradients::Adapter(grads), finished))
    }

    fn train_pass(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (batch, end): (Batch<'_>, End<'_>),
        pass: TrainPass,
        (mut grads, finished): (Gradients<'_>, LayerFinished<'_>),
    ) -> Result<LossSum, ModelError> {
        self.check_end(batch, &end)?;
        let weights = weights.in_training(pass.dropout_seed);
        let (hidden, tape) = self.forward_train(compute, &weights, batch, pass)?;
        let (loss, dhidden) =
            self.end_gradients(compute, &weights, (&hidden, end), pass.grad_scale, &mut grads);
        drop(hidden);
        self.backward(compute, &weights, (tape, batch.tokens), dhidden, (&mut grads, finished));
        Ok(loss)
    }

    /// The loss (0 for an objective, which knows its own), and the gradient of the normalised hidden states `[N, D]`; adds
    /// those of the heads to `grads`.
    fn end_gradients(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (hidden, end): (&[f32], End<'_>),
        scale: f32,
        grads: &mut Gradients<'_>,
    ) -> (LossSum, Buffer) {
        match end {
            End::CrossEntropy(targets) => {
                self.head_loss_and_gradients(compute, weights, (hidden, targets), scale, grads)
            }
            End::Objective(targets, objective) => {
                let pair = (hidden, targets);
                let dhidden = self.objective_gradients(compute, weights, pair, (objective, scale), grads);
                (LossSum::default(), dhidden)
            }
            End::Teacher(teacher) => {
                self.teacher_gradients(compute, weights, (hidden, teacher), scale, grads)
            }
        }
    }

    /// The loss, and the gradient of the normalised hidden states `[N, D]`; adds that of the head to `grads`. Each chunk
    /// of rows goes forward through the head and back before the next one.
    pub(crate) fn head_loss_and_gradients(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (hidden, targets): (&[f32], Targets<'_>),
        grad_scale: f32,
        grads: &mut Gradients<'_>,
    ) -> (LossSum, Buffer) {
        let _counting = compute.cpu.clock.count(Work::Head);
        let mut dhidden = compute.cpu.buffers.zeros(hidden.len());
        let mut loss = LossSum::default();
        let head = (&weights.lm_head(), weights.places().lm_head);
        for rows in self.chunks(targets.weights) {
            let mut chunk = Chunk::gather(compute.cpu, self.config(), hidden, targets, &rows);
            let mut logits = self.logits(compute, weights, &chunk.hidden);
            let scaled: Vec<f32> = chunk.weights.iter().map(|weight| weight * grad_scale).collect();
            compute.cpu.cross_entropy_backward(&mut logits, &mut chunk.losses, &chunk.targets, &scaled);
            chunk.add_to(&mut loss);
            self.head_backward(compute, head, (&logits, &chunk, &rows), (&mut dhidden, grads));
        }
        (loss, dhidden)
    }

    /// From the gradient of a chunk's logits to that of its hidden states, and of the head.
    pub(crate) fn head_backward(
        &self,
        compute: Compute<'_>,
        head: (&LinearWeight<'_>, Place),
        (dlogits, chunk, rows): (&[f32], &Chunk, &[usize]),
        (dhidden, grads): (&mut [f32], &mut Gradients<'_>),
    ) {
        linear::backward_weight(compute, head, grads, (dlogits, &chunk.hidden, rows.len()));
        let mut d = compute.cpu.buffers.take(chunk.hidden.len());
        linear::backward_input(compute, head.0, &mut d, dlogits, (false, rows.len()));
        let width = self.config().hidden_size;
        for (row, d) in rows.iter().zip(d.chunks_exact(width)) {
            dhidden[row * width..(row + 1) * width].copy_from_slice(d);
        }
    }

    /// The loss alone, from normalised hidden states `[N, D]`; any weights.
    pub fn loss_of_hidden(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        hidden: &[f32],
        targets: Targets<'_>,
    ) -> LossSum {
        let mut loss = LossSum::default();
        for rows in self.chunks(targets.weights) {
            let mut chunk = Chunk::gather(compute.cpu, self.config(), hidden, targets, &rows);
            let logits = self.logits(compute, weights, &chunk.hidden);
            chunk.forward(compute.cpu, &logits);
            chunk.add_to(&mut loss);
        }
        loss
    }

    /// The loss of whole documents from empty caches, without gradients or dropout; any weights.
    ///
    /// # Errors
    /// As [`Decoder::loss_and_gradients`].
    pub fn loss(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
        targets: Targets<'_>,
    ) -> Result<LossSum, ModelError> {
        self.check_targets(batch, targets)?;
        let hidden = self.forward_whole(compute, weights, batch)?;
        Ok(self.loss_of_hidden(compute, weights, &hidden, targets))
    }

    /// Normalised hidden states `[N, D]` of whole documents from empty caches.
    pub(crate) fn forward_whole(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
    ) -> Result<Buffer, ModelError> {
        let fresh = |rows: &std::ops::Range<usize>| {
            let mode = crate::CacheMode::Bounded { max_seq_len: rows.len() };
            crate::KvCache::new(self.config(), mode, rows.len())
        };
        let mut caches: Vec<_> = batch.rows.iter().map(fresh).collect();
        let mut borrowed: Vec<_> = caches.iter_mut().collect();
        self.forward(compute, weights, batch, &mut borrowed)
    }

    /// Rows with weight, cut so that a chunk's logits stay small.
    pub(crate) fn chunks(&self, weights: &[f32]) -> Vec<Vec<usize>> {
        let rows: Vec<usize> = (0..weights.len()).filter(|row| weights[*row] != 0.0).collect();
        let chunk = (CHUNK_ELEMENTS / self.config().vocab_size).clamp(16, CHUNK_ROWS);
        rows.chunks(chunk).map(<[usize]>::to_vec).collect()
    }

    pub(crate) fn check_targets(&self, batch: Batch<'_>, targets: Targets<'_>) -> Result<(), ModelError> {
        let (n, vocab_size) = (batch.tokens.len(), self.config().vocab_size);
        for (key, len) in [("targets", targets.targets.len()), ("weights", targets.weights.len())] {
            if len != n {
                return Err(ModelError::bad(key, format!("{n} entries, one a token"), len));
            }
        }
        let counted =
            |row: &usize| targets.weights[*row] != 0.0 && targets.targets[*row] as usize >= vocab_size;
        match (0..n).find(counted) {
            Some(index) => Err(ModelError::TokenId { id: targets.targets[index], index, vocab_size }),
            None => Ok(()),
        }
    }
}

/// The rows of one chunk, gathered.
pub(crate) struct Chunk {
    pub hidden: Buffer,
    pub targets: Vec<u32>,
    pub weights: Vec<f32>,
    pub losses: Vec<f32>,
}

impl Chunk {
    pub fn gather(
        cpu: &Cpu,
        config: &ModelConfig,
        hidden: &[f32],
        targets: Targets<'_>,
        rows: &[usize],
    ) -> Self {
        let width = config.hidden_size;
        let mut gathered = cpu.buffers.take(rows.len() * width);
        for (to, row) in gathered.chunks_exact_mut(width).zip(rows) {
            to.copy_from_slice(&hidden[row * width..(row + 1) * width]);
        }
        Self {
            hidden: gathered,
            targets: rows.iter().map(|row| targets.targets[*row]).collect(),
            weights: rows.iter().map(|row| targets.weights[*row]).collect(),
            losses: vec![0.0; rows.len()],
        }
    }

    pub fn forward(&mut self, cpu: &Cpu, logits: &[f32]) {
        cpu.cross_entropy(logits, &mut self.losses, &self.targets, &self.weights);
    }

    pub fn add_to(&self, loss: &mut LossSum) {
        for (nats, weight) in self.losses.iter().zip(&self.weights) {
            loss.nats += f64::from(nats * weight);
            loss.weight += f64::from(*weight);
        }
    }
}

#[cfg(test)]
mod tests;
