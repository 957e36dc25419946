//! Q8_0: 32 signed bytes and an f16 scale; `value = d * q`, `d = amax / 127`.
//!
//! Layout of the 34 bytes: d (2), q (32, in order).

use super::rounding::{f16_value, read_u16, reciprocal_or_zero, truncate_to_byte, write_f16};

/// Values per block.
pub(crate) const LEN: usize = 32;
/// Bytes per block.
pub(crate) const BYTES: usize = 34;

/// Rounds half away from zero, like C's `roundf`.
pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let amax = x.iter().fold(0.0f32, |m, v| if m > v.abs() { m } else { v.abs() });
    let d = amax / 127.0;
    let inverse = reciprocal_or_zero(d);
    write_f16(block, 0, d);
    for (q, v) in block[2..].iter_mut().zip(x) {
        *q = truncate_to_byte((v * inverse).round());
    }
}

/// Writes a block of scale `d` and integers -127..=127.
pub(super) fn store(block: &mut [u8; BYTES], d: f32, q: &[i8; LEN]) {
    write_f16(block, 0, d);
    for (byte, q) in block[2..].iter_mut().zip(q) {
        *byte = *q as u8;
    }
}

/// Other integers, each with 127 added, under the same scales.
pub(super) fn replace_integers(block: &mut [u8; BYTES], q: &[u8; LEN]) {
    for (byte, q) in block[2..].iter_mut().zip(q) {
        *byte = q.wrapping_sub(127);
    }
}

/// The 32 integers.
pub(crate) fn integers(block: &[u8; BYTES]) -> [i8; LEN] {
    std::array::from_fn(|i| block[2 + i] as i8)
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_value(read_u16(block, 0));
    for (v, q) in out.iter_mut().zip(integers(block)) {
        *v = f32::from(q) * d;
    }
}
