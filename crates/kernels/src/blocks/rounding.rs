//! Roundings and half-precision conversions shared by the formats.

use half::{bf16, f16};

/// The f16 nearest to `v` (ties to even; too large becomes infinity; every NaN becomes the quiet one of its sign).
pub(crate) fn f16_bits(v: f32) -> u16 {
    if v.is_nan() { (((v.to_bits() >> 16) & 0x8000) as u16) | 0x7e00 } else { f16::from_f32(v).to_bits() }
}

/// The value of an f16.
pub(crate) fn f16_value(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// The bf16 nearest to `v` (ties to even; NaN stays NaN, made quiet).
pub(crate) fn bf16_bits(v: f32) -> u16 {
    bf16::from_f32(v).to_bits()
}

/// The value of a bf16.
pub(crate) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Reads the little-endian f16 at `at` as bits.
pub(crate) fn read_u16(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// Writes `v` as f16 at `at`.
pub(super) fn write_f16(block: &mut [u8], at: usize, v: f32) {
    block[at..at + 2].copy_from_slice(&f16_bits(v).to_le_bytes());
}

/// Nearest integer, ties to even, for |v| < 2^22; beyond, the low 23 bits that adding 1.5 * 2^23 leaves (what the
/// reference quantizer stores for values that are out of reach anyway).
pub(super) fn nearest_int(v: f32) -> i32 {
    ((v + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Towards zero, then the low 8 bits; 0 for NaN and what exceeds an i32 (as x86-64 converts).
pub(super) fn truncate_to_byte(v: f32) -> u8 {
    if (-2_147_483_648.0..2_147_483_648.0).contains(&v) { v as i32 as u8 } else { 0 }
}

/// `1 / d`, or 0 for 0.
pub(super) fn reciprocal_or_zero(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The first value of greatest magnitude, with its sign (0 for an empty or all-zero slice).
pub(super) fn signed_extreme(x: &[f32]) -> f32 {
    let (mut magnitude, mut extreme) = (0.0f32, 0.0f32);
    for &v in x {
        if magnitude < v.abs() {
            (magnitude, extreme) = (v.abs(), v);
        }
    }
    extreme
}

/// Smallest and largest value.
pub(super) fn range(x: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = (f32::MAX, -f32::MAX);
    for &v in x {
        if v < low {
            low = v;
        }
        if v > high {
            high = v;
        }
    }
    (low, high)
}
