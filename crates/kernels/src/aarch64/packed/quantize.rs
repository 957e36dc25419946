//! Activations to int8 blocks with NEON.

use crate::packed::TILE_WORDS;
use crate::packed::activations::{QuantizedBlock, block_scale};
use crate::packed::layout::BLOCK;
use std::arch::aarch64::*;

/// Quantizes the first blocks of `rows` rows into a tile.
#[target_feature(enable = "neon")]
pub(super) fn quantize(x: &[f32], [rows, stride]: [usize; 2], tile: &mut [u32]) {
    for (b, words) in tile.chunks_exact_mut(rows * TILE_WORDS).enumerate() {
        for r in 0..rows {
            quantize_block(&x[r * stride + b * BLOCK..][..BLOCK]).store(words, r);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn quantize_block(x: &[f32]) -> QuantizedBlock {
    let (sixteens, _) = x.as_chunks::<16>();
    let mut greatest = vdupq_n_u32(0);
    for four in x.as_chunks::<4>().0 {
        // SAFETY: an array of 4.
        let four = unsafe { vld1q_f32(four.as_ptr()) };
        // As integers, magnitudes have their order and NaN is above infinity.
        greatest = vmaxq_u32(greatest, vreinterpretq_u32_f32(vabsq_f32(four)));
    }
    let (d, inverse) = block_scale(vmaxvq_u32(greatest));
    let mut block = QuantizedBlock { q: [0; BLOCK], d, sums: [0; 2] };
    if inverse == 0.0 {
        return block;
    }
    for (half, sixteen) in sixteens.iter().enumerate() {
        let mut q = [vdupq_n_s32(0); 4];
        for (q, four) in q.iter_mut().zip(sixteen.as_chunks::<4>().0) {
            // SAFETY: an array of 4.
            let four = unsafe { vld1q_f32(four.as_ptr()) };
            *q = vcvtnq_s32_f32(vmulq_n_f32(four, inverse));
        }
        block.sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(q[0], q[1]), vaddq_s32(q[2], q[3])));
        let low = vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]));
        let high = vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]));
        // SAFETY: 16 of the 32 integers.
        unsafe {
            vst1q_s8(block.q[16 * half..][..16].as_mut_ptr(), vcombine_s8(vmovn_s16(low), vmovn_s16(high)))
        };
    }
    block
}
