//! What a training pass may end with besides cross entropy: an objective over log-probabilities and values, or a
//! teacher's distribution. All of them stand on the same layers and the same head.

use shakti_kernels::{Buffer, Work};

use crate::ModelError;
use crate::decoder::{Batch, Decoder};
use crate::layers::Compute;
use crate::loss::{Chunk, LossSum, Targets};
use crate::params::Gradients;
use crate::weights::Weights;

/// What the last layer's output is made into, and what the gradients are of.
pub enum End<'a> {
    /// `sum(weight * nats)`.
    CrossEntropy(Targets<'a>),
    /// Whatever the function computes from log-probabilities and values: it returns the gradient with respect to
    /// each. The weights of the targets only say which rows have a log-probability.
    Objective(Targets<'a>, &'a mut dyn FnMut(&Outputs) -> OutputGradients),
    /// The divergence from a teacher.
    Teacher(Teacher<'a>),
}

impl<'a> From<Targets<'a>> for End<'a> {
    fn from(targets: Targets<'a>) -> Self {
        Self::CrossEntropy(targets)
    }
}

/// What a model says of the rows of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Log-probability of each row's target, in nats `[N]`; 0 where its weight is 0.
    pub log_probs: Vec<f32>,
    /// Score of each row `[N]`; empty without a score head.
    pub values: Vec<f32>,
}

/// Gradients of a loss with respect to [`Outputs`]; either may be empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputGradients {
    /// `[N]`; what it says of rows without weight is ignored.
    pub log_probs: Vec<f32>,
    /// `[N]`.
    pub values: Vec<f32>,
}

/// Which way a divergence is taken; `q` is the teacher, `p` the student.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `sum q log(q / p)`: the student covers what the teacher says.
    Forward,
    /// `sum p log(p / q)`: the student avoids what the teacher does not say.
    Reverse,
}

/// The `k` likeliest tokens of a teacher at each row. The rest of the vocabulary counts as one token more, on both
/// sides, so that probabilities sum to one and either direction is finite.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// The true tokens and the weight of each row.
    pub targets: Targets<'a>,
    /// Token ids `[N, k]`, all of a row different.
    pub ids: &'a [u32],
    /// Their log-probabilities `[N, k]`.
    pub log_probs: &'a [f32],
    /// Which way.
    pub direction: Direction,
    /// Share of the cross entropy with the true tokens in the loss; the divergence has the rest.
    pub hard_share: f32,
}

/// Least probability that is told apart from none: a teacher's whole mass may lie in its `k` tokens.
const LEAST: f64 = 1e-9;

impl Decoder {
    /// Log-probabilities and values of a batch from empty caches, without gradients or dropout; any weights.
    ///
    /// # Errors
    /// As [`Decoder::loss_and_gradients`].
    pub fn outputs(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
        targets: Targets<'_>,
    ) -> Result<Outputs, ModelError> {
        self.check_targets(batch, targets)?;
        let hidden = self.forward_whole(compute, weights, batch)?;
        Ok(self.outputs_of_hidden(compute, weights, &hidden, targets))
    }

    /// The teacher's side of [`Teacher`]: ids and log-probabilities `[rows, k]` of the `k` likeliest tokens of each row that
    /// has weight, likeliest first.
    ///
    /// # Errors
    /// As [`Decoder::loss_and_gradients`]; more tokens than the vocabulary has.
    pub fn likeliest(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (batch, targets): (Batch<'_>, Targets<'_>),
        k: usize,
    ) -> Result<(Vec<u32>, Vec<f32>), ModelError> {
        self.check_targets(batch, targets)?;
        let vocab_size = self.config().vocab_size;
        if k == 0 || k >= vocab_size {
            return Err(ModelError::bad("k", format!("1 to {}", vocab_size - 1), k));
        }
        let hidden = self.forward_whole(compute, weights, batch)?;
        let (mut ids, mut log_probs) = (Vec::new(), Vec::new());
        for rows in self.chunks(targets.weights) {
            let mut chunk = Chunk::gather(compute.cpu, self.config(), &hidden, targets, &rows);
            let logits = self.logits(compute, weights, &chunk.hidden);
            chunk.forward(compute.cpu, &logits);
            for ((row, nats), target) in
                logits.chunks_exact(vocab_size).zip(&chunk.losses).zip(&chunk.targets)
            {
                // The loss is the logarithm of the sum less the target's logit.
                let log_sum = nats + row[*target as usize];
                let best = largest(row, k);
                log_probs.extend(best.iter().map(|id| row[*id as usize] - log_sum));
                ids.extend(best);
            }
        }
        Ok((ids, log_probs))
    }

    /// [`Outputs`] of normalised hidden states `[N, D]`.
    pub(crate) fn outputs_of_hidden(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        hidden: &[f32],
        targets: Targets<'_>,
    ) -> Outputs {
        let _counting = compute.cpu.clock.count(Work::Head);
        let mut log_probs = vec![0.0; targets.weights.len()];
        for rows in self.chunks(targets.weights) {
            let mut chunk = Chunk::gather(compute.cpu, self.config(), hidden, targets, &rows);
            chunk.weights.fill(1.0);
            let logits = self.logits(compute, weights, &chunk.hidden);
            chunk.forward(compute.cpu, &logits);
            for (row, nats) in rows.iter().zip(&chunk.losses) {
                log_probs[*row] = -nats;
            }
        }
        Outputs { log_probs, values: self.values(compute, weights, hidden) }
    }

    /// `hidden [N, D] . score`, if there is such a head.
    fn values(&self, compute: Compute<'_>, weights: &Weights<'_>, hidden: &[f32]) -> Vec<f32> {
        let Some(score) = self.score(compute, weights) else { return Vec::new() };
        hidden.chunks_exact(self.config().hidden_size).map(|row| dot(row, &score)).collect()
    }

    fn score(&self, compute: Compute<'_>, weights: &Weights<'_>) -> Option<Buffer> {
        let index = weights.places().score?;
        let mut score = compute.cpu.buffers.take(self.config().hidden_size);
        weights.matrix(index).rows(compute.cpu, 0..1, &mut score);
        Some(score)
    }

    /// The gradient of the hidden states `[N, D]` under an objective; adds those of the heads to `grads`.
    pub(crate) fn objective_gradients(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (hidden, targets): (&[f32], Targets<'_>),
        (objective, scale): (&mut dyn FnMut(&Outputs) -> OutputGradients, f32),
        grads: &mut Gradients<'_>,
    ) -> Buffer {
        let outputs = self.outputs_of_hidden(compute, weights, hidden, targets);
        let found = objective(&outputs);
        // Cross entropy is the negative log-probability.
        let weigh = |(row, counts): (usize, &f32)| match found.log_probs.get(row) {
            Some(gradient) if *counts != 0.0 => -gradient,
            _ => 0.0,
        };
        let row_weights: Vec<f32> = targets.weights.iter().enumerate().map(weigh).collect();
        let weighed = Targets { targets: targets.targets, weights: &row_weights };
        let (_, mut dhidden) =
            self.head_loss_and_gradients(compute, weights, (hidden, weighed), scale, grads);
        if let Some(score) = self.score(compute, weights) {
            let width = self.config().hidden_size;
            let mut dscore = weights.places().score.and_then(|index| grads.model(index));
            for (row, gradient) in found.values.iter().enumerate().filter(|(_, gradient)| **gradient != 0.0) {
                let (gradient, range) = (gradient * scale, row * width..(row + 1) * width);
                add_scaled(&mut dhidden[range.clone()], &score, gradient);
                if let Some(dscore) = &mut dscore {
                    add_scaled(dscore, &hidden[range], gradient);
                }
            }
        }
        dhidden
    }

    /// The loss against a teacher, and the gradient of the hidden states `[N, D]`; adds that of the head to `grads`.
    pub(crate) fn teacher_gradients(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (hidden, teacher): (&[f32], Teacher<'_>),
        scale: f32,
        grads: &mut Gradients<'_>,
    ) -> (LossSum, Buffer) {
        let _counting = compute.cpu.clock.count(Work::Head);
        let mut dhidden = compute.cpu.buffers.zeros(hidden.len());
        let mut loss = LossSum::default();
        let head = (&weights.lm_head(), weights.places().lm_head);
        for rows in self.chunks(teacher.targets.weights) {
            let (chunk, mut dlogits) = self.teacher_chunk(compute, weights, (hidden, teacher), &rows);
            for (row, weight) in dlogits.chunks_exact_mut(self.config().vocab_size).zip(&chunk.weights) {
                row.iter_mut().for_each(|value| *value *= weight * scale);
            }
            chunk.add_to(&mut loss);
            self.head_backward(compute, head, (&dlogits, &chunk, &rows), (&mut dhidden, grads));
        }
        (loss, dhidden)
    }

    /// The losses of some rows, and the gradient of each with respect to its logits `[rows, V]`, weights left out.
    fn teacher_chunk(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (hidden, teacher): (&[f32], Teacher<'_>),
        rows: &[usize],
    ) -> (Chunk, Buffer) {
        let mut chunk = Chunk::gather(compute.cpu, self.config(), hidden, teacher.targets, rows);
        let mut logits = self.logits(compute, weights, &chunk.hidden);
        let ones = vec![1.0; rows.len()];
        compute.cpu.cross_entropy_backward(&mut logits, &mut chunk.losses, &chunk.targets, &ones);
        for (i, row) in logits.chunks_exact_mut(self.config().vocab_size).enumerate() {
            chunk.losses[i] = teacher.row_gradient(rows[i], row, (chunk.targets[i], chunk.losses[i]));
        }
        (chunk, logits)
    }

    /// The loss against a teacher alone, of a batch from empty caches; any weights.
    ///
    /// # Errors
    /// As [`Decoder::loss_and_gradients`].
    pub fn teacher_loss(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
        teacher: Teacher<'_>,
    ) -> Result<LossSum, ModelError> {
        self.check_end(batch, &End::Teacher(teacher))?;
        let hidden = self.forward_whole(compute, weights, batch)?;
        let mut loss = LossSum::default();
        for rows in self.chunks(teacher.targets.weights) {
            self.teacher_chunk(compute, weights, (&hidden, teacher), &rows).0.add_to(&mut loss);
        }
        Ok(loss)
    }

    /// Whether an end fits a batch.
    pub(crate) fn check_end(&self, batch: Batch<'_>, end: &End<'_>) -> Result<(), ModelError> {
        match end {
            End::CrossEntropy(targets) | End::Objective(targets, _) => self.check_targets(batch, *targets),
            End::Teacher(teacher) => {
                self.check_targets(batch, teacher.targets)?;
                let (n, vocab_size) = (batch.tokens.len(), self.config().vocab_size);
                if n == 0 || !teacher.ids.len().is_multiple_of(n) || teacher.ids.is_empty() {
                    return Err(ModelError::bad(
                        "teacher.ids",
                        format!("k for each of {n}"),
                        teacher.ids.len(),
                    ));
                }
                if teacher.log_probs.len() != teacher.ids.len() {
                    let (expected, found) = (teacher.ids.len().to_string(), teacher.log_probs.len());
                    return Err(ModelError::bad("teacher.log_probs", expected, found));
                }
                match teacher.ids.iter().position(|id| *id as usize >= vocab_size) {
                    Some(index) => Err(ModelError::TokenId { id: teacher.ids[index], index, vocab_size }),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Teacher<'_> {
    /// Turns `p - e_target` of a row into the gradient of its loss and returns the loss. `target` and its nats tell
    /// what cross entropy was computed with.
    fn row_gradient(&self, row: usize, values: &mut [f32], (target, nats): (u32, f32)) -> f32 {
        let k = self.ids.len() / self.targets.weights.len();
        let places = row * k..(row + 1) * k;
        let (ids, log_q) = (&self.ids[places.clone()], &self.log_probs[places]);
        values[target as usize] = (-nats).exp();
        let probs: Vec<f64> = ids.iter().map(|id| f64::from(values[*id as usize])).collect();
        let rest = |sum: f64| (1.0 - sum).max(LEAST);
        let p_rest = rest(probs.iter().sum());
        let q_rest = rest(log_q.iter().map(|log| f64::from(*log).exp()).sum());
        let hard = f64::from(self.hard_share);
        let soft = 1.0 - hard;
        // For each of the k tokens, then the rest: the term of the sum, and the gradient over p.
        let terms = probs.iter().zip(log_q).map(|(p, log_q)| (p.max(f64::MIN_POSITIVE), f64::from(*log_q)));
        let all = terms.chain([(p_rest, q_rest.ln())]);
        let divergence: f64 = all
            .clone()
            .map(|(p, log_q)| match self.direction {
                Direction::Forward => log_q.exp() * (log_q - p.ln()),
                Direction::Reverse => p * (p.ln() - log_q),
            })
            .sum();
        let slope = |(p, log_q): (f64, f64)| match self.direction {
            Direction::Forward => 1.0 - log_q.exp() / p,
            Direction::Reverse => p.ln() - log_q - divergence,
        };
        let slopes: Vec<f64> = all.map(slope).collect();
        // The cross entropy's gradient is p, and one less at the target.
        let factor = (soft * slopes[k] + hard) as f32;
        values.iter_mut().for_each(|value| *value *= factor);
        for (i, (id, p)) in ids.iter().zip(&probs).enumerate() {
            let gradient = match self.direction {
                // Not `p * slope`: p may be too small to divide by.
                Direction::Forward => p - f64::from(log_q[i]).exp(),
                Direction::Reverse => p * slopes[i],
            };
            values[*id as usize] = (soft * gradient + hard * p) as f32;
        }
        values[target as usize] -= self.hard_share;
        (soft * divergence + hard * f64::from(nats)) as f32
    }
}

/// Indices of the `k` largest, largest first; of equals the first.
fn largest(row: &[f32], k: usize) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..row.len() as u32).collect();
    let order = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
    indices.select_nth_unstable_by(k - 1, order);
    indices.truncate(k);
    indices.sort_unstable_by(order);
    indices
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(y: &mut [f32], x: &[f32], scale: f32) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x);
}

#[cfg(test)]
mod tests;
