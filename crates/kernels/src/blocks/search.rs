//! The searches for scales that the 256-value formats make: weighted least squares over a ladder of candidates.
//!
//! Every sum runs in index order in plain f32, because the bytes must equal those of ggml's reference quantizers.

use super::rounding::nearest_int;

/// Magnitudes below this count as zero.
pub(super) const TINY: f32 = 1e-15;

/// An affine fit `x ~ scale * q - min` of one sub-block.
pub(super) struct Affine {
    /// Step.
    pub scale: f32,
    /// What is subtracted; never negative.
    pub min: f32,
    /// Integers of the best candidate.
    pub q: [u8; 32],
}

/// Candidates of the affine search: steps `range / (levels + first + 0.1 * i)` for `i` in `0..=count`.
pub(super) struct Ladder {
    /// Largest integer.
    pub levels: u8,
    /// Offset of the first candidate.
    pub first: f32,
    /// Number of candidates after the first.
    pub count: u8,
}

/// Weights of the affine search: magnitude plus root mean square.
fn affine_weights(x: &[f32; 32]) -> [f32; 32] {
    let sum_squares = x.iter().fold(0.0f32, |sum, v| sum + v * v);
    let rms = (sum_squares / 32.0).sqrt();
    x.map(|v| rms + v.abs())
}

/// Integers of `x` under a candidate step (given as its inverse) and minimum.
fn affine_integers(x: &[f32; 32], min: f32, inverse: f32, levels: u8) -> [u8; 32] {
    x.map(|v| nearest_int(inverse * (v - min)).clamp(0, i32::from(levels)) as u8)
}

/// Weighted squared error of `scale * q + min`.
fn affine_error(x: &[f32; 32], weights: &[f32; 32], q: &[u8; 32], scale: f32, min: f32) -> f32 {
    let mut error = 0.0f32;
    for ((v, w), q) in x.iter().zip(weights).zip(q) {
        let diff = scale * f32::from(*q) + min - v;
        error += w * (diff * diff);
    }
    error
}

/// Best affine fit of 32 values: for each candidate step the integers are rounded, then scale and minimum solved by
/// weighted least squares (the minimum held at or below zero); the smallest error wins, the earliest among equals.
pub(super) fn fit_affine(x: &[f32; 32], ladder: &Ladder) -> Affine {
    let weights = affine_weights(x);
    let (mut low, mut high) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x = sum_w * x[0];
    for (&v, &w) in x.iter().zip(&weights).skip(1) {
        if v < low {
            low = v;
        }
        if v > high {
            high = v;
        }
        sum_w += w;
        sum_x += w * v;
    }
    if low > 0.0 {
        low = 0.0;
    }
    if high == low {
        return Affine { scale: 0.0, min: -low, q: [0; 32] };
    }
    let levels = f32::from(ladder.levels);
    let inverse = levels / (high - low);
    let q = affine_integers(x, low, inverse, ladder.levels);
    let mut best = Affine { scale: 1.0 / inverse, min: low, q };
    let mut best_error = affine_error(x, &weights, &best.q, best.scale, best.min);
    for step in 0..=ladder.count {
        // Both range and rounding start from the minimum of the best fit so far, not from the lowest value.
        let inverse = (ladder.first + 0.1 * f32::from(step) + levels) / (high - best.min);
        let q = affine_integers(x, best.min, inverse, ladder.levels);
        let Some((scale, min)) = solve_affine(x, &weights, &q, (sum_w, sum_x)) else { continue };
        let error = affine_error(x, &weights, &q, scale, min);
        if error < best_error {
            best_error = error;
            best = Affine { scale, min, q };
        }
    }
    best.min = -best.min;
    best
}

/// Weighted least squares for scale and minimum given the integers; `None` where they do not determine both.
fn solve_affine(
    x: &[f32; 32],
    weights: &[f32; 32],
    q: &[u8; 32],
    (sum_w, sum_x): (f32, f32),
) -> Option<(f32, f32)> {
    let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0f32, 0.0f32, 0.0f32);
    for ((&v, &w), &q) in x.iter().zip(weights).zip(q) {
        let q = f32::from(q);
        sum_q += w * q;
        sum_qq += w * q * q;
        sum_xq += w * q * v;
    }
    let determinant = sum_w * sum_qq - sum_q * sum_q;
    if determinant > 0.0 {
        let scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
        let min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
        Some(if min > 0.0 { (sum_xq / sum_qq, 0.0) } else { (scale, min) })
    } else {
        None
    }
}

/// Best scale of 16 values for integers `-levels..levels` (weights: squares of the values), and the integers plus `levels`.
pub(super) fn fit_symmetric(x: &[f32; 16], levels: i8) -> (f32, [u8; 16]) {
    let extreme = super::rounding::signed_extreme(x);
    if extreme.abs() < TINY {
        return (0.0, [0; 16]);
    }
    let round = |inverse: f32| {
        let bound = i32::from(levels);
        x.map(|v| nearest_int(inverse * v).clamp(-bound, bound - 1))
    };
    let shifted = |q: [i32; 16]| q.map(|q| (q + i32::from(levels)) as u8);
    let levels_f = f32::from(levels);
    let first = round(-levels_f / extreme);
    let (sum_xq, sum_qq) = symmetric_sums(x, &first);
    let mut q = first;
    let mut scale = if sum_qq == 0.0 { 0.0 } else { sum_xq / sum_qq };
    let mut best = scale * sum_xq;
    for step in (-9i8..=9).filter(|&s| s != 0) {
        let candidate = round(-(levels_f + 0.1 * f32::from(step)) / extreme);
        let (sum_xq, sum_qq) = symmetric_sums(x, &candidate);
        if sum_qq > 0.0 && sum_xq * sum_xq > best * sum_qq {
            q = candidate;
            scale = sum_xq / sum_qq;
            best = scale * sum_xq;
        }
    }
    (scale, shifted(q))
}

/// Sums of `w x q` and `w q q` with `w = x^2`.
fn symmetric_sums(x: &[f32; 16], q: &[i32; 16]) -> (f32, f32) {
    let (mut sum_xq, mut sum_qq) = (0.0f32, 0.0f32);
    for (&v, &q) in x.iter().zip(q) {
        let (w, q) = (v * v, q as f32);
        sum_xq += w * v * q;
        sum_qq += w * q * q;
    }
    (sum_xq, sum_qq)
}
