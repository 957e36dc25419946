//! Weighted least squares for the scale, or scale and minimum, of a few values: integers are rounded under a ladder of
//! candidate steps, each solved exactly, and the best one is rounded and solved again.

use super::Weighted;
use crate::blocks::rounding::{nearest_int, signed_extreme};

/// Candidates of the symmetric search: `(levels + 0.15 k) / extreme` for `k` from -8 to 24, of either sign. The upper
/// ones clip the extreme value for the sake of the others.
const LADDER: std::ops::RangeInclusive<i8> = -8..=24;

/// Shares of the range that the affine search cuts off at either end, each with each.
const CUTS: [f32; 6] = [-0.02, 0.0, 0.04, 0.08, 0.13, 0.2];

/// Times that the best candidate is rounded again under the solved scale.
const REFINEMENTS: usize = 3;

/// Integers of `x / d`, between the bounds.
pub(super) fn round<const N: usize>(x: &[f32; N], inverse: f32, (low, high): (i32, i32)) -> [i8; N] {
    x.map(|v| nearest_int(v * inverse).clamp(low, high) as i8)
}

/// The scale that minimises the error of `scale * q`, and by how much that is below the error of zeros; `None` where
/// every weighted integer is zero.
fn solve<const N: usize>(values: &Weighted<'_, N>, q: &[i8; N]) -> Option<(f32, f32)> {
    let (mut sum_xq, mut sum_qq) = (0.0f32, 0.0f32);
    for ((x, w), q) in values.x.iter().zip(values.w).zip(q) {
        let q = f32::from(*q);
        sum_xq += w * x * q;
        sum_qq += w * q * q;
    }
    (sum_qq > 0.0).then(|| (sum_xq / sum_qq, sum_xq * sum_xq / sum_qq))
}

/// Best scale for integers between the bounds; `stored` rounds a scale to what a block can hold.
pub(super) fn symmetric<const N: usize>(
    values: &Weighted<'_, N>,
    bounds: (i32, i32),
    stored: impl Fn(f32) -> f32,
) -> f32 {
    let extreme = signed_extreme(values.x);
    if extreme == 0.0 {
        return 0.0;
    }
    let levels = -bounds.0 as f32;
    let (mut scale, mut gain) = (0.0f32, -1.0f32);
    let mut consider = |inverse: f32| {
        let found = solve(values, &round(values.x, inverse, bounds));
        if let Some(found) = found.filter(|found| found.1 > gain) {
            (scale, gain) = found;
        }
    };
    for step in LADDER {
        let inverse = (levels + 0.15 * f32::from(step)) / extreme;
        consider(inverse);
        consider(-inverse);
    }
    for _ in 0..REFINEMENTS {
        let Some((again, _)) = solve(values, &round(values.x, 1.0 / stored(scale), bounds)) else { break };
        scale = again;
    }
    scale
}

/// Integers of `(x - min) / scale`, between 0 and `levels`.
pub(super) fn round_affine<const N: usize>(x: &[f32; N], (scale, min): (f32, f32), levels: i32) -> [u8; N] {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    x.map(|v| nearest_int((v - min) * inverse).clamp(0, levels) as u8)
}

/// Weighted squared error of `scale * q + min`.
pub(super) fn affine_error<const N: usize>(
    values: &Weighted<'_, N>,
    q: &[u8; N],
    (scale, min): (f32, f32),
) -> f32 {
    let mut error = 0.0f32;
    for ((x, w), q) in values.x.iter().zip(values.w).zip(q) {
        let difference = scale * f32::from(*q) + min - x;
        error += w * difference * difference;
    }
    error
}

/// Scale and minimum that minimise the error of `scale * q + min`; `max_min` bounds the minimum. `None` where the
/// integers do not determine both.
fn solve_affine<const N: usize>(values: &Weighted<'_, N>, q: &[u8; N], max_min: f32) -> Option<(f32, f32)> {
    let (mut sum_w, mut sum_x) = (0.0f32, 0.0f32);
    let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0f32, 0.0f32, 0.0f32);
    for ((&x, &w), &q) in values.x.iter().zip(values.w).zip(q) {
        let q = f32::from(q);
        sum_w += w;
        sum_x += w * x;
        sum_q += w * q;
        sum_qq += w * q * q;
        sum_xq += w * q * x;
    }
    let determinant = sum_w * sum_qq - sum_q * sum_q;
    if determinant <= 0.0 {
        return None;
    }
    let min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    let fit = match min > max_min {
        true => ((sum_xq - max_min * sum_q) / sum_qq, max_min),
        false => ((sum_w * sum_xq - sum_x * sum_q) / determinant, min),
    };
    (fit.0 > 0.0).then_some(fit)
}

/// Best scale (not negative) and minimum (at most `max_min`) for integers 0 to `levels`.
pub(super) fn affine<const N: usize>(values: &Weighted<'_, N>, levels: i32, max_min: f32) -> (f32, f32) {
    let (low, high) = crate::blocks::rounding::range(values.x);
    let low = low.min(max_min);
    let range = high - low;
    if range <= 0.0 {
        return (0.0, low);
    }
    let mut best = (range / levels as f32, low);
    let mut best_error = affine_error(values, &round_affine(values.x, best, levels), best);
    for below in CUTS {
        for above in CUTS {
            let mut fit = (range * (1.0 - below - above) / levels as f32, low + below * range);
            for _ in 0..REFINEMENTS {
                let q = round_affine(values.x, fit, levels);
                let Some(solved) = solve_affine(values, &q, max_min) else { break };
                let error = affine_error(values, &q, solved);
                fit = solved;
                if error < best_error {
                    (best, best_error) = (fit, error);
                }
            }
        }
    }
    best
}
