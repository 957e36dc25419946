//! Weighted least squares for the scale, or scale and minimum, of a few values: integers are rounded under a ladder of
//! candidate steps, each solved exactly, and the best one is rounded and solved again.
//!
//! Integers are whole f32 and sums run in eight lanes, in plain operations that the compiler vectorizes: nine tenths of
//! the time of a quantization is spent here. The order of every sum is fixed, so all machines find the same.

use super::Weighted;
use crate::blocks::rounding::signed_extreme;

/// Candidates of the symmetric search: `(levels + 0.3 k) / extreme` for `k` from -4 to 12, of either sign. The upper
/// ones clip the extreme value for the sake of the others.
const LADDER: std::ops::RangeInclusive<i8> = -4..=12;

/// Shares of the range that the affine search cuts off at either end, each with each.
const CUTS: [f32; 6] = [-0.02, 0.0, 0.04, 0.08, 0.13, 0.2];

/// Times that the best candidate is rounded again under the solved scale.
const REFINEMENTS: usize = 3;

/// Lanes of a sum.
const LANES: usize = 8;

/// Whole number nearest to `v`, ties to even, for |v| < 2^22: adding 1.5 * 2^23 leaves no fraction.
#[inline(always)]
fn whole(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

/// Integers of `(x - offset) * inverse`, between the bounds.
#[inline(always)]
pub(super) fn round<const N: usize>(
    x: &[f32; N],
    (inverse, offset): (f32, f32),
    (low, high): (f32, f32),
) -> [f32; N] {
    let mut q = [0.0; N];
    for (q, x) in q.iter_mut().zip(x) {
        *q = whole(((x - offset) * inverse).clamp(low, high));
    }
    q
}

/// `sum_i a[i] b[i] c[i]`.
#[inline(always)]
fn sum3<const N: usize>(a: &[f32; N], b: &[f32; N], c: &[f32; N]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let parts = a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0).zip(c.as_chunks::<LANES>().0);
    for ((a, b), c) in parts {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane] * c[lane];
        }
    }
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]))
}

/// `sum_i w[i] (step q[i] + offset - x[i])^2`.
#[inline(always)]
pub(super) fn error<const N: usize>(
    values: &Weighted<'_, N>,
    q: &[f32; N],
    (step, offset): (f32, f32),
) -> f32 {
    let mut difference = [0.0; N];
    for ((difference, x), q) in difference.iter_mut().zip(values.x).zip(q) {
        *difference = step * q + offset - x;
    }
    sum3(values.w, &difference, &difference)
}

/// `sum w x q` and `sum w q q`.
#[inline(always)]
pub(super) fn products<const N: usize>(values: &Weighted<'_, N>, q: &[f32; N]) -> (f32, f32) {
    (sum3(values.w, values.x, q), sum3(values.w, q, q))
}

/// `sum w`, `sum w q`, `sum w x`.
#[inline(always)]
pub(super) fn sums<const N: usize>(values: &Weighted<'_, N>, q: &[f32; N]) -> [f32; 3] {
    let ones = [1.0; N];
    [&ones, q, values.x].map(|factor| sum3(values.w, &ones, factor))
}

/// The scale that minimises the error of `scale * q`, and by how much that is below the error of zeros; `None` where
/// every weighted integer is zero.
#[inline(always)]
fn solve<const N: usize>(values: &Weighted<'_, N>, q: &[f32; N]) -> Option<(f32, f32)> {
    let (sum_xq, sum_qq) = products(values, q);
    (sum_qq > 0.0).then(|| (sum_xq / sum_qq, sum_xq * sum_xq / sum_qq))
}

/// Best scale for integers between the bounds; `stored` rounds a scale to what a block can hold.
pub(super) fn symmetric<const N: usize>(
    values: &Weighted<'_, N>,
    bounds: (f32, f32),
    stored: impl Fn(f32) -> f32,
) -> f32 {
    let extreme = signed_extreme(values.x);
    if extreme == 0.0 {
        return 0.0;
    }
    let (mut scale, mut gain) = (0.0f32, -1.0f32);
    let mut consider = |inverse: f32| {
        let found = solve(values, &round(values.x, (inverse, 0.0), bounds));
        if let Some(found) = found.filter(|found| found.1 > gain) {
            (scale, gain) = found;
        }
    };
    for step in LADDER {
        let inverse = (0.3 * f32::from(step) - bounds.0) / extreme;
        consider(inverse);
        consider(-inverse);
    }
    for _ in 0..REFINEMENTS {
        let q = round(values.x, (1.0 / stored(scale), 0.0), bounds);
        let Some((again, _)) = solve(values, &q) else { break };
        scale = again;
    }
    scale
}

/// Scale and minimum that minimise the error of `scale * q + min`, and by how much that is below the error of zeros;
/// `max_min` bounds the minimum. `None` where the integers do not determine both.
#[inline(always)]
fn solve_affine<const N: usize>(
    values: &Weighted<'_, N>,
    q: &[f32; N],
    max_min: f32,
) -> Option<((f32, f32), f32)> {
    let ([sum_w, sum_q, sum_x], (sum_xq, sum_qq)) = (sums(values, q), products(values, q));
    let determinant = sum_w * sum_qq - sum_q * sum_q;
    if determinant <= 0.0 {
        return None;
    }
    let min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    let (scale, min) = match min > max_min {
        true => ((sum_xq - max_min * sum_q) / sum_qq, max_min),
        false => ((sum_w * sum_xq - sum_x * sum_q) / determinant, min),
    };
    let gain =
        scale * (2.0 * sum_xq - scale * sum_qq - 2.0 * min * sum_q) + min * (2.0 * sum_x - min * sum_w);
    (scale > 0.0).then_some(((scale, min), gain))
}

/// Best scale (not negative) and minimum (at most `max_min`) for integers 0 to `levels`.
pub(super) fn affine<const N: usize>(values: &Weighted<'_, N>, levels: f32, max_min: f32) -> (f32, f32) {
    let (low, high) = crate::blocks::rounding::range(values.x);
    let low = low.min(max_min);
    let range = high - low;
    if range <= 0.0 {
        return (0.0, low);
    }
    let solved = |(step, offset): (f32, f32)| {
        let q = round(values.x, (1.0 / step, offset), (0.0, levels));
        solve_affine(values, &q, max_min)
    };
    let (mut best, mut gain) = ((range / levels, low), f32::NEG_INFINITY);
    for below in CUTS {
        for above in CUTS {
            let start = (range * (1.0 - below - above) / levels, low + below * range);
            if let Some(found) = solved(start).filter(|found| found.1 > gain) {
                (best, gain) = found;
            }
        }
    }
    for _ in 0..REFINEMENTS {
        let Some(found) = solved(best).filter(|found| found.1 > gain) else { break };
        (best, gain) = found;
    }
    best
}
