//! AdamW (Loshchilov and Hutter, 2019) and sums of squares.
//!
//! With gradient `g` (after `grad_scale`), step `t` and learning rate `r`:
//!
//! ```text
//! p <- p (1 - r weight_decay)
//! m <- m + (1 - beta1) (g - m)
//! v <- beta2 v + (1 - beta2) g^2
//! p <- p - r / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//! ```

use crate::ops::optimizer::AdamWFactors;

pub(super) fn adamw(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], factors: &AdamWFactors) {
    for i in 0..param.len() {
        let g = grad[i] * factors.grad_scale;
        m[i] += (1.0 - factors.beta1) * (g - m[i]);
        v[i] = factors.beta2 * v[i] + (1.0 - factors.beta2) * g * g;
        let denominator = v[i].sqrt() * factors.denominator_scale + factors.eps;
        param[i] = param[i] * factors.decay - factors.step_size * m[i] / denominator;
    }
}

/// `sum x^2`, products and sum in f64.
pub(super) fn sum_squares(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}
