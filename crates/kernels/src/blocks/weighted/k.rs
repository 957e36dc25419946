//! The formats of 256 values, whose sub-blocks have integer scales under an f16.
//!
//! Sub-blocks are fitted alone; then, three times: each takes the best integers near its fit under the stored f16
//! scales, and the f16 scales are solved again by weighted least squares over the whole block. The best of all wins.

use super::{Weighted, fit};
use crate::blocks::affine_k::{AffineBlock, head};
use crate::blocks::rounding::{f16_bits, f16_value, nearest_int, reciprocal_or_zero, signed_extreme};
use crate::blocks::{q4_k, q5_k, q6_k};

/// Times that sub-blocks and super-scales are fitted to each other.
const ROUNDS: usize = 3;

fn as_f16(v: f64) -> f32 {
    f16_value(f16_bits(v as f32))
}

/// One sub-block of a symmetric block under some super-scale.
#[derive(Clone, Copy)]
struct Group {
    scale: i8,
    q: [f32; 16],
    error: f32,
}

pub(super) fn q6_k(values: &Weighted<'_, 256>, block: &mut [u8; q6_k::BYTES]) {
    let groups: Vec<Weighted<'_, 16>> = values.groups().collect();
    let fits: Vec<f32> =
        groups.iter().map(|group| fit::symmetric(group, (-32.0, 31.0), |scale| scale)).collect();
    let mut d = as_f16(f64::from(signed_extreme(&fits)) / -128.0);
    let mut best = (f32::INFINITY, 0.0, [(0, [32; 16]); 16]);
    for _ in 0..ROUNDS {
        let chosen: [Group; 16] = std::array::from_fn(|s| best_scale(&groups[s], fits[s], d));
        let error = chosen.iter().map(|group| group.error).sum();
        if error < best.0 {
            best =
                (error, d, chosen.each_ref().map(|group| (group.scale, group.q.map(|q| (q + 32.0) as u8))));
        }
        let (mut sum_xq, mut sum_qq) = (0.0f64, 0.0f64);
        for (group, chosen) in groups.iter().zip(&chosen) {
            let (scale, (xq, qq)) = (f64::from(chosen.scale), fit::products(group, &chosen.q));
            sum_xq += scale * f64::from(xq);
            sum_qq += scale * scale * f64::from(qq);
        }
        d = if sum_qq > 0.0 { as_f16(sum_xq / sum_qq) } else { d };
    }
    q6_k::store(block, best.1, &best.2);
}

/// The best integer scale of a sub-block among those nearest to its own fit.
fn best_scale(group: &Weighted<'_, 16>, fit: f32, d: f32) -> Group {
    let near = nearest_int(fit * reciprocal_or_zero(d));
    let candidates = (-1..=1).map(|offset| {
        let scale = (near + offset).clamp(-128, 127) as i8;
        let step = d * f32::from(scale);
        let q = fit::round(group.x, (reciprocal_or_zero(step), 0.0), (-32.0, 31.0));
        Group { scale, q, error: fit::error(group, &q, (step, 0.0)) }
    });
    let zeros = Group { scale: 0, q: [0.0; 16], error: fit::error(group, &[0.0; 16], (0.0, 0.0)) };
    candidates.fold(zeros, |best, group| if group.error < best.error { group } else { best })
}

/// One sub-block of an affine block under some super-scales.
#[derive(Clone, Copy)]
struct AffineGroup {
    scale: u8,
    min: u8,
    q: [f32; 32],
    error: f32,
}

/// Scale and minimum of a block, as stored.
type Super = (f32, f32);

fn affine(values: &Weighted<'_, 256>, levels: f32) -> AffineBlock {
    let groups: Vec<Weighted<'_, 32>> = values.groups().collect();
    let fits: Vec<(f32, f32)> = groups.iter().map(|group| fit::affine(group, levels, 0.0)).collect();
    let most = |of: fn(&(f32, f32)) -> f32| fits.iter().map(of).fold(0.0f32, f32::max);
    let mut over: Super =
        (as_f16(f64::from(most(|fit| fit.0)) / 63.0), as_f16(f64::from(most(|fit| -fit.1)) / 63.0));
    let zeros = AffineGroup { scale: 0, min: 0, q: [0.0; 32], error: f32::INFINITY };
    let mut best = (f32::INFINITY, over, [zeros; 8]);
    for _ in 0..ROUNDS {
        let chosen: [AffineGroup; 8] = std::array::from_fn(|s| best_pair(&groups[s], fits[s], over, levels));
        let error = chosen.iter().map(|group| group.error).sum();
        if error < best.0 {
            best = (error, over, chosen);
        }
        over = solve_super(&groups, &chosen).unwrap_or(over);
    }
    let (_, (d, dmin), groups) = best;
    let mut q = [0; 256];
    for (to, group) in q.as_chunks_mut::<32>().0.iter_mut().zip(&groups) {
        *to = group.q.map(|q| q as u8);
    }
    AffineBlock { head: head(d, dmin, &groups.map(|group| group.scale), &groups.map(|group| group.min)), q }
}

/// The best integer scale and minimum of a sub-block among those nearest to its own fit.
fn best_pair(group: &Weighted<'_, 32>, fit: (f32, f32), over: Super, levels: f32) -> AffineGroup {
    let near = |value: f32, step: f32| nearest_int(value * reciprocal_or_zero(step));
    let (scale, min) = (near(fit.0, over.0), near(-fit.1, over.1));
    let pairs = (-1..=1).flat_map(|s| (-1..=1).map(move |m| (scale + s, min + m)));
    let candidates = pairs.map(|(scale, min)| {
        let (scale, min) = (scale.clamp(0, 63) as u8, min.clamp(0, 63) as u8);
        let steps = (over.0 * f32::from(scale), -(over.1 * f32::from(min)));
        let q = fit::round(group.x, (reciprocal_or_zero(steps.0), steps.1), (0.0, levels));
        AffineGroup { scale, min, q, error: fit::error(group, &q, steps) }
    });
    let none = AffineGroup { scale: 0, min: 0, q: [0.0; 32], error: f32::INFINITY };
    candidates.fold(none, |best, group| if group.error < best.error { group } else { best })
}

/// The super-scales that minimise the error of `d scale q - dmin min`; `None` where one would be negative or the
/// integers do not determine both.
fn solve_super(groups: &[Weighted<'_, 32>], chosen: &[AffineGroup; 8]) -> Option<Super> {
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0f64, 0.0, 0.0, 0.0, 0.0);
    for (group, chosen) in groups.iter().zip(chosen) {
        let (scale, b) = (f64::from(chosen.scale), -f64::from(chosen.min));
        let (xq, qq) = fit::products(group, &chosen.q);
        let [w, wq, wx] = fit::sums(group, &chosen.q).map(f64::from);
        aa += scale * scale * f64::from(qq);
        ab += scale * b * wq;
        bb += b * b * w;
        ax += scale * f64::from(xq);
        bx += b * wx;
    }
    let determinant = aa * bb - ab * ab;
    let (d, dmin) = match determinant > 0.0 {
        true => ((bb * ax - ab * bx) / determinant, (aa * bx - ab * ax) / determinant),
        false if aa > 0.0 => (ax / aa, 0.0),
        false => return None,
    };
    (d > 0.0 && dmin >= 0.0).then(|| (as_f16(d), as_f16(dmin)))
}

pub(super) fn q5_k(values: &Weighted<'_, 256>, block: &mut [u8; q5_k::BYTES]) {
    q5_k::store(block, &affine(values, 31.0));
}

pub(super) fn q4_k(values: &Weighted<'_, 256>, block: &mut [u8; q4_k::BYTES]) {
    q4_k::store(block, &affine(values, 15.0));
}
