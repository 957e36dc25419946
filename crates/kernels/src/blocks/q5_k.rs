//! Q5_K: 256 integers of 5 bits, eight sub-blocks of 32 with 6-bit scales and minima.
//!
//! `value = d * scale[s] * q - dmin * min[s]`. Layout of the 176 bytes: d (2), dmin (2), scales and minima (12), fifth
//! bits (32: bit `s` of byte `i` belongs to value `32 s + i`), nibbles (128, as in Q4_K).

use super::affine_k::{self, AffineBlock};
use super::nibbles;
use super::search::Ladder;

/// Values per block.
pub(crate) const LEN: usize = 256;
/// Bytes per block.
pub(crate) const BYTES: usize = 176;

const LADDER: Ladder = Ladder { levels: 31, first: -0.5, count: 15 };

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    store(block, &affine_k::quantize(x, &LADDER));
}

/// Writes a block of fitted scales, minima and integers 0..32.
pub(super) fn store(block: &mut [u8; BYTES], fitted: &AffineBlock) {
    block[..16].copy_from_slice(&fitted.head);
    block[16..48].fill(0);
    for (i, q) in fitted.q.iter().enumerate() {
        block[16 + i % 32] |= (q >> 4) << (i / 32);
    }
    nibbles::pack_256(&fitted.q, &mut block[48..]);
}

/// Other integers under the same scales.
pub(super) fn replace_integers(block: &mut [u8; BYTES], q: &[u8; LEN]) {
    let head = *block.first_chunk().expect("a block is longer than its head");
    store(block, &AffineBlock { head, q: *q });
}

/// The 256 integers, 0..32.
pub(crate) fn integers(block: &[u8; BYTES]) -> [u8; LEN] {
    let mut q = nibbles::unpack_256(&block[48..]);
    for (s, values) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (q, bits) in values.iter_mut().zip(&block[16..48]) {
            *q |= (bits >> s & 1) << 4;
        }
    }
    q
}

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    affine_k::dequantize(block, &integers(block), out);
}
