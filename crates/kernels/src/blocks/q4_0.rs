//! Q4_0: 32 integers of 4 bits and an f16 scale; `value = d * (q - 8)`.
//!
//! `d = extreme / -8` where the extreme is the value of greatest magnitude, so it is hit exactly by q = 0, and values
//! near it of the other sign are clipped at q = 15. Layout of the 18 bytes: d (2), nibbles (16).

use super::nibbles;
use super::rounding::{f16_value, read_u16, reciprocal_or_zero, signed_extreme, truncate_to_byte, write_f16};

/// Values per block.
pub(crate) const LEN: usize = 32;
/// Bytes per block.
pub(crate) const BYTES: usize = 18;

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let d = signed_extreme(x) / -8.0;
    let inverse = reciprocal_or_zero(d);
    let q = x.map(|v| truncate_to_byte(v * inverse + 8.5).min(15));
    store(block, d, &q);
}

/// Writes a block of scale `d` and integers 0..16.
pub(super) fn store(block: &mut [u8; BYTES], d: f32, q: &[u8; LEN]) {
    write_f16(block, 0, d);
    nibbles::pack(q, &mut block[2..]);
}

/// Other integers under the same scales.
pub(super) fn replace_integers(block: &mut [u8; BYTES], q: &[u8; LEN]) {
    store(block, f16_value(read_u16(block, 0)), q);
}

/// The 32 integers, 0..16, zero at 8.
pub(crate) fn integers(block: &[u8; BYTES]) -> [u8; LEN] {
    nibbles::unpack(&block[2..])
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_value(read_u16(block, 0));
    for (v, q) in out.iter_mut().zip(integers(block)) {
        *v = (f32::from(q) - 8.0) * d;
    }
}
