//! Q5_0: 32 integers of 5 bits and an f16 scale; `value = d * (q - 16)`.
//!
//! `d = extreme / -16` as in Q4_0. Layout of the 22 bytes: d (2), fifth bits (4), nibbles (16).

use super::nibbles;
use super::rounding::{f16_value, read_u16, reciprocal_or_zero, signed_extreme, truncate_to_byte, write_f16};

/// Values per block.
pub(crate) const LEN: usize = 32;
/// Bytes per block.
pub(crate) const BYTES: usize = 22;

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let d = signed_extreme(x) / -16.0;
    let inverse = reciprocal_or_zero(d);
    let q = x.map(|v| truncate_to_byte(v * inverse + 16.5).min(31));
    store(block, d, &q);
}

/// Writes a block of scale `d` and integers 0..32.
pub(super) fn store(block: &mut [u8; BYTES], d: f32, q: &[u8; LEN]) {
    write_f16(block, 0, d);
    block[2..6].copy_from_slice(&nibbles::pack_fifth_bits(q));
    nibbles::pack(q, &mut block[6..]);
}

/// Other integers under the same scales.
pub(super) fn replace_integers(block: &mut [u8; BYTES], q: &[u8; LEN]) {
    store(block, f16_value(read_u16(block, 0)), q);
}

/// The 32 integers, 0..32, zero at 16.
pub(crate) fn integers(block: &[u8; BYTES]) -> [u8; LEN] {
    nibbles::unpack_five(&block[2..6], &block[6..])
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_value(read_u16(block, 0));
    for (v, q) in out.iter_mut().zip(integers(block)) {
        *v = (f32::from(q) - 16.0) * d;
    }
}
