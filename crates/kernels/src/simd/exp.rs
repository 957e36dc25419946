//! The exponential function.

use super::Simd;

/// Below this the result is 0 (the exact one would be below 1.2e-38, the smallest normal number).
const SMALLEST: f32 = -87.336_54;
/// From here on the result is that of this input, 2.4e38.
const LARGEST: f32 = 88.376_26;
const LN_2_HIGH: f32 = std::f32::consts::LN_2;
/// ln 2 minus its nearest f32.
const LN_2_LOW: f32 = -1.904_654_3e-9;
/// `(exp(r) - 1 - r) / r^2` on `|r| <= ln(2) / 2` by interpolation at Chebyshev nodes; `exp` is then off by 1e-8.
const POLYNOMIAL: [f32; 5] = [0.5, 0.166_665_77, 0.041_666_556, 0.008_363_173, 0.001_392_617_6];

/// `exp(x)` within 2 units in the last place for `x` in `-87.33..=88.37`; 0 below, constant above, NaN for NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let bounded = s.min(s.splat(LARGEST), s.max(s.splat(SMALLEST), x));
    let n = s.round(s.mul(bounded, s.splat(std::f32::consts::LOG2_E)));
    let r = s.neg_mul_add(n, s.splat(LN_2_HIGH), bounded);
    let r = s.neg_mul_add(n, s.splat(LN_2_LOW), r);
    let mut p = s.splat(POLYNOMIAL[4]);
    p = s.mul_add(p, r, s.splat(POLYNOMIAL[3]));
    p = s.mul_add(p, r, s.splat(POLYNOMIAL[2]));
    p = s.mul_add(p, r, s.splat(POLYNOMIAL[1]));
    p = s.mul_add(p, r, s.splat(POLYNOMIAL[0]));
    let y = s.add(s.mul_add(s.mul(r, r), p, r), s.splat(1.0));
    s.zero_where_less(s.scale_by_power(y, n), x, s.splat(SMALLEST))
}
