//! Log-sum-exp and softmax of one row of logits; formulas in `scalar/loss.rs`. A NaN among the logits makes both NaN.

use super::Simd;
use super::exp::exp;
use super::lanes::{Lanes, for_lanes};

/// The largest logit, NaN left aside.
#[inline(always)]
fn largest<S: Simd>(s: S, logits: &[f32]) -> f32 {
    let mut max = s.splat(f32::NEG_INFINITY);
    let whole = logits.len() / S::LANES * S::LANES;
    for_lanes!(S, whole, |i, lanes| {
        max = s.max(lanes.load(s, logits, i), max);
    });
    logits[whole..].iter().copied().fold(s.largest(max), f32::max)
}

#[inline(always)]
pub(crate) fn log_sum_exp<S: Simd>(s: S, logits: &[f32]) -> f32 {
    let max = largest(s, logits);
    let (shift, mut sum) = (s.splat(max), s.splat(0.0));
    let whole = logits.len() / S::LANES * S::LANES;
    for_lanes!(S, whole, |i, lanes| {
        sum = s.add(sum, exp(s, s.sub(lanes.load(s, logits, i), shift)));
    });
    let rest: f32 = logits[whole..].iter().map(|x| (x - max).exp()).sum();
    max + (s.sum(sum) + rest).ln()
}

#[inline(always)]
pub(crate) fn scaled_softmax<S: Simd>(s: S, logits: &mut [f32], scale: f32) -> f32 {
    let max = largest(s, logits);
    let (shift, mut sum) = (s.splat(max), s.splat(0.0));
    let whole = logits.len() / S::LANES * S::LANES;
    for_lanes!(S, whole, |i, lanes| {
        let p = exp(s, s.sub(lanes.load(s, logits, i), shift));
        sum = s.add(sum, p);
        lanes.store(s, logits, i, p);
    });
    let mut total = s.sum(sum);
    for x in &mut logits[whole..] {
        *x = (*x - max).exp();
        total += *x;
    }
    let factor = s.splat(scale / total);
    for_lanes!(S, logits.len(), |i, lanes| {
        lanes.store(s, logits, i, s.mul(lanes.load(s, logits, i), factor));
    });
    max + total.ln()
}
