//! Q4_K: 256 integers of 4 bits, eight sub-blocks of 32 with 6-bit scales and minima.
//!
//! `value = d * scale[s] * q - dmin * min[s]`. Layout of the 144 bytes: d (2), dmin (2), scales and minima (12),
//! nibbles (128: byte `32 j + i` holds value `64 j + i` low and `64 j + 32 + i` high).

use super::affine_k::{self, AffineBlock};
use super::nibbles;
use super::search::Ladder;

/// Values per block.
pub(crate) const LEN: usize = 256;
/// Bytes per block.
pub(crate) const BYTES: usize = 144;

const LADDER: Ladder = Ladder { levels: 15, first: -1.0, count: 20 };

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    store(block, &affine_k::quantize(x, &LADDER));
}

/// Writes a block of fitted scales, minima and integers 0..16.
pub(super) fn store(block: &mut [u8; BYTES], fitted: &AffineBlock) {
    block[..16].copy_from_slice(&fitted.head);
    nibbles::pack_256(&fitted.q, &mut block[16..]);
}

/// Other integers under the same scales.
pub(super) fn replace_integers(block: &mut [u8; BYTES], q: &[u8; LEN]) {
    let head = *block.first_chunk().expect("a block is longer than its head");
    store(block, &AffineBlock { head, q: *q });
}

/// The 256 integers, 0..16.
pub(crate) fn integers(block: &[u8; BYTES]) -> [u8; LEN] {
    nibbles::unpack_256(&block[16..])
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    affine_k::dequantize(block, &integers(block), out);
}
