//! AdamW (Loshchilov and Hutter, 2019), weighted sums and sums of squares.
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

#[inline(always)]
pub(crate) fn adamw(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], factors: &AdamWFactors) {
    let moments = m.iter_mut().zip(v);
    for ((param, grad), (m, v)) in param.iter_mut().zip(grad).zip(moments) {
        let g = grad * factors.grad_scale;
        *m += (1.0 - factors.beta1) * (g - *m);
        *v = factors.beta2 * *v + (1.0 - factors.beta2) * g * g;
        let denominator = v.sqrt() * factors.denominator_scale + factors.eps;
        *param = *param * factors.decay - factors.step_size * *m / denominator;
    }
}

#[inline(always)]
pub(crate) fn axpby(y: &mut [f32], x: &[f32], [a, b]: [f32; 2]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = a * *y + b * x);
}

/// `sum x^2`, products and sum in f64.
pub(super) fn sum_squares(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}
