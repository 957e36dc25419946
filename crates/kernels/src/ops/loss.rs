//! Cross entropy of next-token logits, alone and fused with its gradient.

use super::{check_len, elements};
use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;

impl Cpu {
    /// The loss of every row in nats: `losses[n] = log_sum_exp(logits[n]) - logits[n][targets[n]]`, not multiplied by
    /// the weight, and 0 where `weights[n]` is 0 (the target is then not looked at).
    ///
    /// # Shapes
    /// `logits [N, V]`, `losses [N]`, `targets [N]`, `weights [N]`.
    ///
    /// # Panics
    /// If a target with weight is not below V.
    pub fn cross_entropy(&self, logits: &[f32], losses: &mut [f32], targets: &[u32], weights: &[f32]) {
        let _counting = self.clock.count(Work::CrossEntropy);
        let v = vocabulary(logits, losses, targets, weights);
        let (n, losses) = (losses.len(), Disjoint::new(losses));
        self.for_rows(n, v, &|rows| {
            // SAFETY: the rows of different tasks do not overlap.
            let losses = unsafe { losses.part(rows.clone()) };
            for (row, loss) in rows.zip(losses) {
                let logits = &logits[elements(&(row..row + 1), v)];
                *loss = match weights[row] {
                    0.0 => 0.0,
                    _ => kernel!(self, log_sum_exp(logits)) - logits[targets[row] as usize],
                };
            }
        });
    }

    /// The loss of every row as in [`cross_entropy`](Self::cross_entropy), and the gradient of the weighted sum of the
    /// losses in place of the logits: `logits[n] = weights[n] * (softmax(logits[n]) - onehot(targets[n]))`.
    ///
    /// # Shapes
    /// `logits [N, V]`, `losses [N]`, `targets [N]`, `weights [N]`.
    ///
    /// # Panics
    /// If a target with weight is not below V.
    pub fn cross_entropy_backward(
        &self,
        logits: &mut [f32],
        losses: &mut [f32],
        targets: &[u32],
        weights: &[f32],
    ) {
        let _counting = self.clock.count(Work::CrossEntropy);
        let v = vocabulary(logits, losses, targets, weights);
        let n = losses.len();
        let (logits, losses) = (Disjoint::new(logits), Disjoint::new(losses));
        self.for_rows(n, v, &|rows| {
            for row in rows {
                // SAFETY: the rows of different tasks do not overlap.
                let (logits, loss) =
                    unsafe { (logits.part(elements(&(row..row + 1), v)), &mut losses.part(row..row + 1)[0]) };
                if weights[row] == 0.0 {
                    logits.fill(0.0);
                    *loss = 0.0;
                } else {
                    let target = targets[row] as usize;
                    let logit = logits[target];
                    *loss = kernel!(self, scaled_softmax(logits, weights[row])) - logit;
                    logits[target] -= weights[row];
                }
            }
        });
    }
}

/// The row length V.
fn vocabulary(logits: &[f32], losses: &[f32], targets: &[u32], weights: &[f32]) -> usize {
    let n = losses.len();
    assert!(targets.len() == n, "cross_entropy: {} targets for {n} losses", targets.len());
    check_len("cross_entropy: weights", weights, n);
    let v = logits.len().checked_div(n).unwrap_or(0);
    check_len("cross_entropy: logits", logits, n * v);
    v
}
