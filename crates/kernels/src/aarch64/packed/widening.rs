//! Sums of products by widening multiply-adds, for NEON alone.
//!
//! Products are added in 16 bits, which never overflow: activations lie in -127..=127, so eight products of an unsigned
//! 5-bit weight reach 31,496, four of 6 bits 32,004 (their sums are per 16 values), and two of signed 8 bits 32,512.

#![expect(clippy::needless_range_loop, reason = "quarters and rows index several arrays of sums at once")]

use super::Place;
use super::blocks::{Integers, block_tile};
use super::unpack::unpack_signed;
use crate::packed::layout::Format;
use std::arch::aarch64::*;
use std::arch::asm;

/// Sums with `smlal`.
pub(super) struct Widening;

/// Sums of lanes 0 and 1, and of lanes 2 and 3: four of 16 bits, or two of 32 bits, for each lane.
#[derive(Clone, Copy)]
struct Partial {
    shorts: [int16x8_t; 2],
    words: [int32x4_t; 2],
}

impl Integers for Widening {
    const SIGNED_BYTES: bool = true;

    #[inline(always)]
    fn quarters(rows: usize) -> usize {
        match rows {
            1 => 4,
            2 => 2,
            _ => 1,
        }
    }

    #[inline(always)]
    unsafe fn sums<F: Format, const Q: usize, const R: usize, const FIRST: usize, const END: usize>(
        data: *const u8,
        quarter: usize,
        x: *const u32,
    ) -> [[int32x4_t; R]; Q] {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = Partial { shorts: [vdupq_n_s16(0); 2], words: [vdupq_n_s32(0); 2] };
            let mut sums = [[zero; R]; Q];
            if FIRST == 0 {
                add_pair::<F, Q, R, 0>(data, quarter, x, &mut sums);
                add_pair::<F, Q, R, 1>(data, quarter, x, &mut sums);
            }
            if END == 4 {
                add_pair::<F, Q, R, 2>(data, quarter, x, &mut sums);
                add_pair::<F, Q, R, 3>(data, quarter, x, &mut sums);
            }
            let mut totals = [[vdupq_n_s32(0); R]; Q];
            for q in 0..Q {
                for r in 0..R {
                    totals[q][r] = total::<F>(sums[q][r]);
                }
            }
            totals
        }
    }

    #[target_feature(enable = "neon")]
    unsafe fn tile<F: Format, const R: usize>(place: Place<u32>) {
        // SAFETY: the caller's promise.
        unsafe { block_tile::<Self, F, R>(place) };
    }
}

/// Adds the products of groups `2 I` and `2 I + 1`.
///
/// # Safety
/// As [`Integers::sums`].
#[inline(always)]
unsafe fn add_pair<F: Format, const Q: usize, const R: usize, const I: usize>(
    data: *const u8,
    quarter: usize,
    x: *const u32,
    sums: &mut [[Partial; R]; Q],
) {
    for q in 0..Q {
        // SAFETY: a quarter of the block of weights, words of the tile's block; the caller has NEON.
        unsafe {
            let weights = unpack_signed::<F, I>(data, quarter + q);
            for r in 0..R {
                let x = [four_values::<R>(x, 2 * I, r), four_values::<R>(x, 2 * I + 1, r)];
                sums[q][r] = add_products::<F>(sums[q][r], weights, x);
            }
        }
    }
}

/// Adds the products of two groups to the sums of a row.
#[inline]
#[target_feature(enable = "neon")]
fn add_products<F: Format>(
    Partial { shorts, words }: Partial,
    w: [int8x16_t; 2],
    x: [int8x16_t; 2],
) -> Partial {
    if F::LAYOUT.bits == 8 {
        let low = vmull_s8(vget_low_s8(w[0]), vget_low_s8(x[0]));
        let low = vmlal_s8(low, vget_low_s8(w[1]), vget_low_s8(x[1]));
        let high = vmlal_high_s8(vmull_high_s8(w[0], x[0]), w[1], x[1]);
        return Partial { shorts, words: [vpadalq_s16(words[0], low), vpadalq_s16(words[1], high)] };
    }
    let low = smlal(smlal(shorts[0], w[0], x[0]), w[1], x[1]);
    let high = smlal2(smlal2(shorts[1], w[0], x[0]), w[1], x[1]);
    Partial { shorts: [low, high], words }
}

/// Adds the products of the first eight bytes. In assembly, because the compiler, where it sees that the weights are not
/// negative, widens both factors apart from the product.
#[inline]
#[target_feature(enable = "neon")]
fn smlal(mut sums: int16x8_t, w: int8x16_t, x: int8x16_t) -> int16x8_t {
    // SAFETY: the function is only called where the CPU has the instruction, which touches registers alone.
    unsafe {
        asm!(
            "smlal {sums:v}.8h, {w:v}.8b, {x:v}.8b",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds the products of the last eight bytes.
#[inline]
#[target_feature(enable = "neon")]
fn smlal2(mut sums: int16x8_t, w: int8x16_t, x: int8x16_t) -> int16x8_t {
    // SAFETY: as in `smlal`.
    unsafe {
        asm!(
            "smlal2 {sums:v}.8h, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// One sum for each lane.
#[inline]
#[target_feature(enable = "neon")]
fn total<F: Format>(Partial { shorts, words }: Partial) -> int32x4_t {
    let words = if F::LAYOUT.bits == 8 { words } else { [vpaddlq_s16(shorts[0]), vpaddlq_s16(shorts[1])] };
    vpaddq_s32(words[0], words[1])
}

/// The four values of group `g` of row `r`, for every lane.
///
/// # Safety
/// NEON; a block of a tile of `R` rows lies at `x`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four_values<const R: usize>(x: *const u32, g: usize, r: usize) -> int8x16_t {
    // SAFETY: a word of the tile's block.
    vreinterpretq_s8_s32(unsafe { vld1q_dup_s32(x.add(g * R + r).cast()) })
}
