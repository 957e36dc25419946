//! SwiGLU's product; formulas in `scalar/activation.rs`.

use super::Simd;
use super::exp::exp;
use super::lanes::{Lanes, for_lanes};

/// `1 / (1 + exp(-x))`.
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

#[inline(always)]
pub(crate) fn silu_mul<S: Simd>(s: S, y: &mut [f32], gate: &[f32], up: &[f32]) {
    for_lanes!(S, y.len(), |i, lanes| {
        let g = lanes.load(s, gate, i);
        lanes.store(s, y, i, s.mul(s.mul(g, sigmoid(s, g)), lanes.load(s, up, i)));
    });
}

#[inline(always)]
pub(crate) fn silu_mul_backward<S: Simd>(
    s: S,
    dy: &mut [f32],
    dup: &mut [f32],
    y: &mut [f32],
    gate: &[f32],
    up: &[f32],
) {
    let one = s.splat(1.0);
    for_lanes!(S, dy.len(), |i, lanes| {
        let (d, g, u) = (lanes.load(s, dy, i), lanes.load(s, gate, i), lanes.load(s, up, i));
        let sigmoid = sigmoid(s, g);
        let silu = s.mul(g, sigmoid);
        lanes.store(s, y, i, s.mul(silu, u));
        lanes.store(s, dup, i, s.mul(d, silu));
        let slope = s.mul(sigmoid, s.mul_add(g, s.sub(one, sigmoid), one));
        lanes.store(s, dy, i, s.mul(s.mul(d, u), slope));
    });
}
