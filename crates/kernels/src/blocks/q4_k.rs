//! Q4_K: 256 integers of 4 bits, eight sub-blocks of 32 with 6-bit scales and minima.
//!
//! `value = d * scale[s] * q - dmin * min[s]`. Layout of the 144 bytes: d (2), dmin (2), scales and minima (12),
//! nibbles (128: byte `32 j + i` holds value `64 j + i` low and `64 j + 32 + i` high).

use super::affine_k;
use super::search::Ladder;

/// Values per block.
pub(crate) const LEN: usize = 256;
/// Bytes per block.
pub(crate) const BYTES: usize = 144;

const LADDER: Ladder = Ladder { levels: 15, first: -1.0, count: 20 };

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let fitted = affine_k::quantize(x, &LADDER);
    block[..16].copy_from_slice(&fitted.head);
    for (byte, at) in block[16..].iter_mut().zip(nibble_places()) {
        *byte = fitted.q[at] | (fitted.q[at + 32] << 4);
    }
}

/// For each byte of nibbles the index of its low value; the high one is 32 further.
pub(super) fn nibble_places() -> impl Iterator<Item = usize> {
    (0..128).map(|i| 64 * (i / 32) + i % 32)
}

/// The 256 integers, 0..16.
pub(crate) fn integers(block: &[u8; BYTES]) -> [u8; LEN] {
    let mut q = [0; LEN];
    for (byte, at) in block[16..].iter().zip(nibble_places()) {
        q[at] = byte & 15;
        q[at + 32] = byte >> 4;
    }
    q
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    affine_k::dequantize(block, &integers(block), out);
}
