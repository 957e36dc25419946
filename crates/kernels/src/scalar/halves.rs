//! Floats stored in fewer bits: for the key-value cache. Loops without branches, so that each instruction set has them
//! as vectors.

use half::f16;

/// The halves nearest to `x` (ties to even); what is too large becomes the largest finite one, NaN stays NaN.
#[inline(always)]
pub(crate) fn to_f16(y: &mut [f16], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f16::from_bits(half_bits(x));
    }
}

/// Integers `q` and the scale `d` (a half) with `x` about `q d`: `d = max |x| / 127`, `q = round(x / d)`.
#[inline(always)]
pub(crate) fn to_q8(y: &mut [i8], x: &[f32]) -> f16 {
    // Magnitudes compare as integers do, and NaN is above all.
    let largest = x.iter().fold(0, |largest: u32, x| largest.max(x.to_bits() & 0x7fff_ffff));
    let d = f32::from_bits(largest) / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x * inverse).round_ties_even() as i8;
    }
    f16::from_bits(half_bits(d))
}

/// Bits of the nearest half.
#[inline(always)]
fn half_bits(x: f32) -> u16 {
    const LARGEST: u32 = 0x477f_e000; // 65504
    const SMALLEST_NORMAL: u32 = 0x3880_0000; // 2^-14
    const INFINITY: u32 = 0x7f80_0000;
    let (sign, magnitude) = ((x.to_bits() >> 16) & 0x8000, x.to_bits() & 0x7fff_ffff);
    let kept = magnitude.min(LARGEST);
    // Rounds 13 bits away, ties to even, and moves the exponent's bias from 127 to 15.
    let normal = ((kept + 0xfff + ((kept >> 13) & 1)) >> 13).wrapping_sub(112 << 10);
    // The last bit of 0.5 + x is worth 2^-24, as that of a subnormal half.
    let subnormal = (f32::from_bits(kept) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if kept < SMALLEST_NORMAL { subnormal } else { normal };
    (sign | if magnitude > INFINITY { 0x7e00 } else { finite }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_those_of_the_standard_but_for_infinity() {
        let interesting =
            [0.0f32, 1.0, 65504.0, 65519.0, 6.1e-5, 5.96e-8, 2.98e-8, 2.9e-8, 1e-30, 1.000_488_3];
        let spread = (0..2_000_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_147_483_629)));
        for x in interesting.into_iter().chain(spread).flat_map(|x| [x, -x]) {
            let expected = f16::from_f32(x);
            let found = f16::from_bits(half_bits(x));
            if expected.is_nan() {
                assert!(found.is_nan(), "{x:e}");
            } else if expected.is_infinite() {
                assert_eq!(found, if x > 0.0 { f16::MAX } else { f16::MIN }, "{x:e}");
            } else {
                assert_eq!(found.to_bits(), expected.to_bits(), "{x:e}");
            }
        }
    }

    #[test]
    fn eight_bits_are_within_half_a_step_and_show_nan() {
        let x: Vec<f32> = (0..32).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let mut q = [0; 32];
        let d = to_q8(&mut q, &x).to_f32();
        assert!(q.iter().any(|q| q.unsigned_abs() == 127));
        for (q, x) in q.iter().zip(&x) {
            // Half a step, and what the scale loses as a half.
            assert!((f32::from(*q) * d - x).abs() <= d * 0.5 + 127.0 * d / 2048.0, "{x}");
        }
        assert_eq!(to_q8(&mut q, &[0.0; 32]).to_f32(), 0.0);
        let mut with_nan = x;
        with_nan[7] = f32::NAN;
        assert!(to_q8(&mut q, &with_nan).is_nan());
    }
}
