//! RMSNorm and LayerNorm of rows; formulas in `scalar/norm.rs`.

use super::Simd;
use super::lanes::{Lanes, dot, for_lanes};

#[inline(always)]
pub(crate) fn rms_norm<S: Simd>(s: S, y: &mut [f32], rstd: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let d = weight.len();
    for (row, rstd) in rstd.iter_mut().enumerate() {
        let (x, y) = (&x[row * d..(row + 1) * d], &mut y[row * d..(row + 1) * d]);
        *rstd = 1.0 / (dot(s, x, x) / d as f32 + eps).sqrt();
        let factor = s.splat(*rstd);
        for_lanes!(S, d, |i, lanes| {
            let h = s.mul(lanes.load(s, x, i), factor);
            lanes.store(s, y, i, s.mul(h, lanes.load(s, weight, i)));
        });
    }
}

#[inline(always)]
pub(crate) fn rms_norm_backward<S: Simd>(
    s: S,
    dx: &mut [f32],
    dweight: &mut [f32],
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    rstd: &[f32],
) {
    let d = weight.len();
    for (row, &rstd) in rstd.iter().enumerate() {
        let (x, dy) = (&x[row * d..(row + 1) * d], &dy[row * d..(row + 1) * d]);
        let dx = &mut dx[row * d..(row + 1) * d];
        let factor = s.splat(rstd);
        let mut sum = s.splat(0.0);
        for_lanes!(S, d, |i, lanes| {
            let g = s.mul(lanes.load(s, dy, i), lanes.load(s, weight, i));
            sum = s.mul_add(g, s.mul(lanes.load(s, x, i), factor), sum);
        });
        let mean_gh = s.splat(s.sum(sum) / d as f32);
        for_lanes!(S, d, |i, lanes| {
            let dy = lanes.load(s, dy, i);
            let h = s.mul(lanes.load(s, x, i), factor);
            let inner = s.neg_mul_add(h, mean_gh, s.mul(dy, lanes.load(s, weight, i)));
            lanes.store(s, dx, i, s.mul_add(factor, inner, lanes.load(s, dx, i)));
            lanes.store(s, dweight, i, s.mul_add(dy, h, lanes.load(s, dweight, i)));
        });
    }
}

#[inline(always)]
pub(crate) fn layer_norm<S: Simd>(
    s: S,
    y: &mut [f32],
    stats: [&mut [f32]; 2],
    x: &[f32],
    affine: [&[f32]; 2],
    eps: f32,
) {
    let [means, rstds] = stats;
    let [weight, bias] = affine;
    let d = weight.len();
    for (row, (mean, rstd)) in means.iter_mut().zip(rstds).enumerate() {
        let (x, y) = (&x[row * d..(row + 1) * d], &mut y[row * d..(row + 1) * d]);
        let mut sum = s.splat(0.0);
        for_lanes!(S, d, |i, lanes| {
            sum = s.add(sum, lanes.load(s, x, i));
        });
        *mean = s.sum(sum) / d as f32;
        // The centred row is kept in `y`, where the missing elements of the last vector do not count.
        let shift = s.splat(*mean);
        for_lanes!(S, d, |i, lanes| {
            lanes.store(s, y, i, s.sub(lanes.load(s, x, i), shift));
        });
        *rstd = 1.0 / (dot(s, y, y) / d as f32 + eps).sqrt();
        let factor = s.splat(*rstd);
        for_lanes!(S, d, |i, lanes| {
            let h = s.mul(lanes.load(s, y, i), factor);
            lanes.store(s, y, i, s.mul_add(h, lanes.load(s, weight, i), lanes.load(s, bias, i)));
        });
    }
}

#[inline(always)]
pub(crate) fn layer_norm_backward<S: Simd>(
    s: S,
    dx: &mut [f32],
    daffine: [&mut [f32]; 2],
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    stats: [&[f32]; 2],
) {
    let [dweight, dbias] = daffine;
    let d = weight.len();
    for (row, (&mean, &rstd)) in stats[0].iter().zip(stats[1]).enumerate() {
        let (x, dy) = (&x[row * d..(row + 1) * d], &dy[row * d..(row + 1) * d]);
        let dx = &mut dx[row * d..(row + 1) * d];
        let (shift, factor) = (s.splat(mean), s.splat(rstd));
        let (mut sum_g, mut sum_gh) = (s.splat(0.0), s.splat(0.0));
        for_lanes!(S, d, |i, lanes| {
            // Where the last vector has no elements `g` is 0, so `h` does not matter.
            let g = s.mul(lanes.load(s, dy, i), lanes.load(s, weight, i));
            let h = s.mul(s.sub(lanes.load(s, x, i), shift), factor);
            sum_g = s.add(sum_g, g);
            sum_gh = s.mul_add(g, h, sum_gh);
        });
        let (mean_g, mean_gh) = (s.splat(s.sum(sum_g) / d as f32), s.splat(s.sum(sum_gh) / d as f32));
        for_lanes!(S, d, |i, lanes| {
            let dy = lanes.load(s, dy, i);
            let h = s.mul(s.sub(lanes.load(s, x, i), shift), factor);
            let inner = s.sub(s.mul(dy, lanes.load(s, weight, i)), mean_g);
            let inner = s.neg_mul_add(h, mean_gh, inner);
            lanes.store(s, dx, i, s.mul_add(factor, inner, lanes.load(s, dx, i)));
            lanes.store(s, dweight, i, s.mul_add(dy, h, lanes.load(s, dweight, i)));
            lanes.store(s, dbias, i, s.add(dy, lanes.load(s, dbias, i)));
        });
    }
}
