//! Log-sum-exp and softmax of one row of logits, shifted by the row's maximum so that nothing overflows.

/// `log sum_i exp(logits[i])`.
pub(super) fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    max + logits.iter().map(|x| (x - max).exp()).sum::<f32>().ln()
}

/// Replaces the logits by `scale * softmax(logits)` and returns their log-sum-exp.
pub(super) fn scaled_softmax(logits: &mut [f32], scale: f32) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in logits.iter_mut() {
        *x = (*x - max).exp();
    }
    let sum = logits.iter().sum::<f32>();
    for x in logits.iter_mut() {
        *x *= scale / sum;
    }
    max + sum.ln()
}
