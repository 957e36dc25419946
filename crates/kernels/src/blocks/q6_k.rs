//! Q6_K: 256 integers of 6 bits, sixteen sub-blocks of 16 with 8-bit signed scales under one f16.
//!
//! `value = d * scale[s] * (q - 32)`. Layout of the 210 bytes: low nibbles (128), upper two bits (64), scales (16), d (2).
//! Each half of 128 values takes 64 and 32 bytes: with `i` in 0..32, byte `i` holds the nibbles of values `i` and
//! `64 + i`, byte `32 + i` those of `32 + i` and `96 + i`; upper byte `i` holds two bits each of `i, 32 + i, 64 + i, 96 + i`.

use super::rounding::{f16_value, nearest_int, read_u16, write_f16};
use super::search::{TINY, fit_symmetric};

/// Values per block.
pub(crate) const LEN: usize = 256;
/// Bytes per block.
pub(crate) const BYTES: usize = 210;

const HIGH: usize = 128;
const SCALES: usize = 192;
const SCALE: usize = 208;

/// Where value `i` stands: byte and shift of its nibble, byte and shift of its upper bits.
fn place(i: usize) -> (usize, usize, usize, usize) {
    let (half, quarter, lane) = (i / 128, i / 32 % 4, i % 32);
    (64 * half + 32 * (quarter % 2) + lane, 4 * (quarter / 2), HIGH + 32 * half + lane, 2 * quarter)
}

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    block.fill(0);
    let (groups, _) = x.as_chunks::<16>();
    let fits: [(f32, [u8; 16]); 16] = std::array::from_fn(|s| fit_symmetric(&groups[s], 32));
    let extreme = super::rounding::signed_extreme(&fits.map(|fit| fit.0));
    if extreme.abs() < TINY {
        return;
    }
    let inverse = -128.0 / extreme;
    write_f16(block, SCALE, 1.0 / inverse);
    let d = f16_value(read_u16(block, SCALE));
    for (s, (scale, fitted)) in fits.iter().enumerate() {
        let scale = nearest_int(inverse * scale).min(127) as i8;
        let d = d * f32::from(scale);
        let q = match d == 0.0 {
            true => *fitted,
            false => groups[s].map(|v| (nearest_int(v / d).clamp(-32, 31) + 32) as u8),
        };
        store_group(block, s, scale, &q);
    }
}

/// Writes the scale and the integers 0..64 of sub-block `s` into a block whose bits are still zero there.
fn store_group(block: &mut [u8; BYTES], s: usize, scale: i8, q: &[u8; 16]) {
    block[SCALES + s] = scale as u8;
    for (i, q) in q.iter().enumerate() {
        let (low, low_shift, high, high_shift) = place(16 * s + i);
        block[low] |= (q & 15) << low_shift;
        block[high] |= (q >> 4) << high_shift;
    }
}

/// Writes a whole block: the f16 over all scales, and each sub-block's scale and integers 0..64.
pub(super) fn store(block: &mut [u8; BYTES], d: f32, groups: &[(i8, [u8; 16]); 16]) {
    block.fill(0);
    write_f16(block, SCALE, d);
    for (s, (scale, q)) in groups.iter().enumerate() {
        store_group(block, s, *scale, q);
    }
}

/// Other integers under the same scales.
pub(super) fn replace_integers(block: &mut [u8; BYTES], q: &[u8; LEN]) {
    let scales = scales(block);
    let groups = std::array::from_fn(|s| (scales[s], q.as_chunks::<16>().0[s]));
    store(block, f16_value(super_scale(block)), &groups);
}

/// The 256 integers, 0..64, zero at 32.
pub(crate) fn integers(block: &[u8; BYTES]) -> [u8; LEN] {
    let mut q = [0; LEN];
    for (index, values) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (low, low_shift, high, high_shift) = place(32 * index);
        let bytes = block[low..low + 32].iter().zip(&block[high..high + 32]);
        for (q, (low, high)) in values.iter_mut().zip(bytes) {
            *q = (low >> low_shift & 15) | ((high >> high_shift & 3) << 4);
        }
    }
    q
}

/// The sixteen signed scales.
pub(crate) fn scales(block: &[u8; BYTES]) -> [i8; 16] {
    std::array::from_fn(|s| block[SCALES + s] as i8)
}

/// The f16 over all scales, as bits.
pub(crate) fn super_scale(block: &[u8; BYTES]) -> u16 {
    read_u16(block, SCALE)
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_value(super_scale(block));
    let q = integers(block);
    let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(q.as_chunks::<16>().0);
    for ((out, q), scale) in groups.zip(scales(block)) {
        let d = d * f32::from(scale);
        for (v, q) in out.iter_mut().zip(q) {
            *v = d * (f32::from(*q) - 32.0);
        }
    }
}
