//! What Q4_K and Q5_K share: eight sub-blocks of 32 with a 6-bit scale and a 6-bit minimum each, under two f16.

use super::rounding::{f16_value, nearest_int, read_u16, write_f16};
use super::search::{Ladder, fit_affine};

/// The scales and minima of a block, with the integers fitted to them.
pub(super) struct AffineBlock {
    /// Bytes 0..16 of the block: d, dmin, packed scales and minima.
    pub head: [u8; 16],
    /// The 256 integers.
    pub q: [u8; 256],
}

/// Quantizes 256 values: fits each sub-block, rounds the fits to 6 bits, rounds the values to the result.
pub(super) fn quantize(x: &[f32; 256], ladder: &Ladder) -> AffineBlock {
    let fits: [_; 8] = std::array::from_fn(|s| fit_affine(sub_block(x, s), ladder));
    let max_scale = fits.iter().fold(0.0f32, |m, f| if f.scale > m { f.scale } else { m });
    let max_min = fits.iter().fold(0.0f32, |m, f| if f.min > m { f.min } else { m });
    let per_scale = if max_scale > 0.0 { 63.0 / max_scale } else { 0.0 };
    let per_min = if max_min > 0.0 { 63.0 / max_min } else { 0.0 };
    let six_bits = |v: f32| (nearest_int(v) as u8).min(63);
    let scales = std::array::from_fn(|s| six_bits(per_scale * fits[s].scale));
    let mins = std::array::from_fn(|s| six_bits(per_min * fits[s].min));

    let head = head(max_scale / 63.0, max_min / 63.0, &scales, &mins);
    let (d, dmin) = (f16_value(read_u16(&head, 0)), f16_value(read_u16(&head, 2)));
    let mut q = [0u8; 256];
    for (s, fit) in fits.iter().enumerate() {
        let (d, dmin) = (d * f32::from(scales[s]), dmin * f32::from(mins[s]));
        let rounded = match d == 0.0 {
            true => fit.q,
            false => {
                sub_block(x, s).map(|v| nearest_int((v + dmin) / d).clamp(0, i32::from(ladder.levels)) as u8)
            }
        };
        q[32 * s..32 * s + 32].copy_from_slice(&rounded);
    }
    AffineBlock { head, q }
}

fn sub_block(x: &[f32; 256], s: usize) -> &[f32; 32] {
    &x.as_chunks::<32>().0[s]
}

/// Bytes 0..16 of a block.
pub(super) fn head(d: f32, dmin: f32, scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 16] {
    let mut head = [0u8; 16];
    write_f16(&mut head, 0, d);
    write_f16(&mut head, 2, dmin);
    head[4..].copy_from_slice(&pack_six_bits(scales, mins));
    head
}

/// Scales and minima as 12 bytes: bytes 0..4 and 4..8 hold those of sub-blocks 0..4 in their low six bits; those of
/// 4..8 have their low nibbles side by side in bytes 8..12 and their upper two bits on top of bytes 0..4 and 4..8.
fn pack_six_bits(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => scales[i] | (scales[i + 4] >> 4 << 6),
        4..8 => mins[i - 4] | (mins[i] >> 4 << 6),
        _ => (scales[i - 4] & 15) | (mins[i - 4] << 4),
    })
}

/// The scales and minima of bytes 4..16 of a block.
pub(crate) fn six_bits(block: &[u8]) -> ([u8; 8], [u8; 8]) {
    let bytes = &block[4..16];
    let scales = std::array::from_fn(|s| match s {
        0..4 => bytes[s] & 63,
        _ => (bytes[s + 4] & 15) | (bytes[s - 4] >> 6 << 4),
    });
    let mins = std::array::from_fn(|s| match s {
        0..4 => bytes[s + 4] & 63,
        _ => (bytes[s + 4] >> 4) | (bytes[s] >> 6 << 4),
    });
    (scales, mins)
}

/// The f16 over all scales and that over all minima.
pub(super) fn super_scales(block: &[u8]) -> (f32, f32) {
    (f16_value(read_u16(block, 0)), f16_value(read_u16(block, 2)))
}

/// Values of a block from its head and its integers: `d * scale * q - dmin * min`.
pub(super) fn dequantize(block: &[u8], q: &[u8; 256], out: &mut [f32; 256]) {
    let (d, dmin) = super_scales(block);
    let (scales, mins) = six_bits(block);
    for (s, (out, q)) in out.as_chunks_mut::<32>().0.iter_mut().zip(q.as_chunks::<32>().0).enumerate() {
        let (scale, min) = (d * f32::from(scales[s]), dmin * f32::from(mins[s]));
        for (v, q) in out.iter_mut().zip(q) {
            *v = scale * f32::from(*q) - min;
        }
    }
}
