//! SwiGLU's product (Shazeer, 2020) and simple sums, element by element.
//!
//! `silu(g) = g s` with `s = 1 / (1 + exp(-g))`, `y = silu(g) u`; so `du = dy g s` and `dg = dy u s (1 + g (1 - s))`.

pub(super) fn silu_mul(y: &mut [f32], gate: &[f32], up: &[f32]) {
    for i in 0..y.len() {
        y[i] = gate[i] / (1.0 + (-gate[i]).exp()) * up[i];
    }
}

/// `dy` becomes `dg`.
pub(super) fn silu_mul_backward(dy: &mut [f32], dup: &mut [f32], y: &mut [f32], gate: &[f32], up: &[f32]) {
    silu_mul(y, gate, up);
    for i in 0..dy.len() {
        let s = 1.0 / (1.0 + (-gate[i]).exp());
        dup[i] = dy[i] * gate[i] * s;
        dy[i] = dy[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
    }
}

#[inline(always)]
pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[inline(always)]
pub(crate) fn scale(x: &mut [f32], s: f32) {
    for x in x {
        *x *= s;
    }
}
