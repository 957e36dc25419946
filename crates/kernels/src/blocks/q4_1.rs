//! Q4_1: 32 integers of 4 bits, an f16 scale and an f16 minimum; `value = d * q + m`.
//!
//! `m` is the smallest value, `d` a fifteenth of the range. Layout of the 20 bytes: d (2), m (2), nibbles (16).

use super::nibbles;
use super::rounding::{f16_value, range, read_u16, reciprocal_or_zero, truncate_to_byte, write_f16};

/// Values per block.
pub(crate) const LEN: usize = 32;
/// Bytes per block.
pub(crate) const BYTES: usize = 20;

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let (low, high) = range(x);
    let d = (high - low) / 15.0;
    let inverse = reciprocal_or_zero(d);
    let q = x.map(|v| truncate_to_byte((v - low) * inverse + 0.5).min(15));
    store(block, (d, low), &q);
}

/// Writes a block of scale, minimum and integers 0..16.
pub(super) fn store(block: &mut [u8; BYTES], (d, m): (f32, f32), q: &[u8; LEN]) {
    write_f16(block, 0, d);
    write_f16(block, 2, m);
    nibbles::pack(q, &mut block[4..]);
}

/// Other integers under the same scales.
pub(super) fn replace_integers(block: &mut [u8; BYTES], q: &[u8; LEN]) {
    store(block, (f16_value(read_u16(block, 0)), f16_value(read_u16(block, 2))), q);
}

/// The 32 integers, 0..16.
pub(crate) fn integers(block: &[u8; BYTES]) -> [u8; LEN] {
    nibbles::unpack(&block[4..])
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (d, m) = (f16_value(read_u16(block, 0)), f16_value(read_u16(block, 2)));
    for (v, q) in out.iter_mut().zip(integers(block)) {
        *v = f32::from(q) * d + m;
    }
}
