//! AdamW's update and the sum of squares for gradient clipping.

use super::{TASK_ELEMENTS, check_len};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;
use std::cell::RefCell;

/// The settings of one step of AdamW, with the meaning they have in `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// The learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the running mean of gradients.
    pub beta1: f32,
    /// Decay of the running mean of squared gradients.
    pub beta2: f32,
    /// Added to the square root in the denominator.
    pub eps: f32,
    /// Decoupled weight decay; 0 for parameters that are not decayed.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub step: u64,
    /// Multiplies the gradient first (clipping, averaging over micro-steps).
    pub grad_scale: f32,
}

/// The numbers of a step that are the same for every element: see `scalar/optimizer.rs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWFactors {
    pub grad_scale: f32,
    /// `1 - learning_rate * weight_decay`.
    pub decay: f32,
    pub beta1: f32,
    pub beta2: f32,
    /// `learning_rate / (1 - beta1^step)`.
    pub step_size: f32,
    /// `1 / sqrt(1 - beta2^step)`.
    pub denominator_scale: f32,
    pub eps: f32,
}

impl AdamWStep {
    pub(super) fn factors(&self) -> AdamWFactors {
        let power = |beta: f32| f64::from(beta).powf(self.step as f64);
        let learning_rate = f64::from(self.learning_rate);
        AdamWFactors {
            grad_scale: self.grad_scale,
            decay: (1.0 - learning_rate * f64::from(self.weight_decay)) as f32,
            beta1: self.beta1,
            beta2: self.beta2,
            step_size: (learning_rate / (1.0 - power(self.beta1))) as f32,
            denominator_scale: (1.0 / (1.0 - power(self.beta2)).sqrt()) as f32,
            eps: self.eps,
        }
    }
}

thread_local! {
    /// Sums of parts, kept from call to call.
    static PARTIAL: RefCell<Vec<f64>> = RefCell::default();
}

impl Cpu {
    /// One AdamW step on `param` with gradient `grad` and moments `m`, `v` (zero before step 1), all of one length:
    /// the formula of `torch.optim.AdamW`, in f32.
    pub fn adamw(&self, param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamWStep) {
        let len = param.len();
        check_len("adamw: grad", grad, len);
        check_len("adamw: m", m, len);
        check_len("adamw: v", v, len);
        let factors = step.factors();
        let (param, m, v) = (Disjoint::new(param), Disjoint::new(m), Disjoint::new(v));
        self.for_rows(len, 1, &|part| {
            // SAFETY: the ranges of different tasks do not overlap.
            let (param, m, v) =
                unsafe { (param.part(part.clone()), m.part(part.clone()), v.part(part.clone())) };
            kernel!(self, adamw(param, &grad[part], m, v, &factors));
        });
    }

    /// `y = a y + b x`.
    pub fn axpby(&self, y: &mut [f32], x: &[f32], [a, b]: [f32; 2]) {
        check_len("axpby: x", x, y.len());
        let len = y.len();
        let y = Disjoint::new(y);
        self.for_rows(len, 1, &|part| {
            // SAFETY: the ranges of different tasks do not overlap.
            let y = unsafe { y.part(part.clone()) };
            kernel!(self, axpby(y, &x[part], [a, b]));
        });
    }

    /// The sum of the squares of `x`: parts of fixed length are summed, then their sums in order.
    pub fn sum_squares(&self, x: &[f32]) -> f64 {
        let mut partial = PARTIAL.take();
        partial.resize(x.len().div_ceil(TASK_ELEMENTS), 0.0);
        let sums = Disjoint::new(&mut partial);
        self.for_ranges(x.len(), TASK_ELEMENTS, &|index, part| {
            // SAFETY: each task has its own sum.
            let sum = unsafe { sums.part(index..index + 1) };
            sum[0] = kernel!(self, sum_squares(&x[part]));
        });
        let sum = partial.iter().sum();
        PARTIAL.set(partial);
        sum
    }
}
