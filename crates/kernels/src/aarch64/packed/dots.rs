//! Sums of products by dot products of four signed bytes.
//!
//! `sdot` is written in assembly, because its intrinsic is not stable in every compiler that builds this crate.

#![expect(clippy::needless_range_loop, reason = "quarters and rows index several arrays of sums at once")]

use super::Place;
use super::blocks::{Integers, block_tile};
use super::unpack::unpack_signed;
use crate::packed::layout::Format;
use std::arch::aarch64::*;
use std::arch::asm;

/// Sums with `sdot`.
pub(super) struct Dots;

impl Integers for Dots {
    const SIGNED_BYTES: bool = true;

    #[inline(always)]
    fn quarters(rows: usize) -> usize {
        if rows <= 2 { 4 } else { 2 }
    }

    #[inline(always)]
    unsafe fn sums<F: Format, const Q: usize, const R: usize, const FIRST: usize, const END: usize>(
        data: *const u8,
        quarter: usize,
        x: *const u32,
    ) -> [[int32x4_t; R]; Q] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); R]; Q];
            if FIRST == 0 {
                add_pair::<F, Q, R, 0>(data, quarter, x, &mut sums);
                add_pair::<F, Q, R, 1>(data, quarter, x, &mut sums);
            }
            if END == 4 {
                add_pair::<F, Q, R, 2>(data, quarter, x, &mut sums);
                add_pair::<F, Q, R, 3>(data, quarter, x, &mut sums);
            }
            sums
        }
    }

    #[target_feature(enable = "neon,dotprod")]
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
    sums: &mut [[int32x4_t; R]; Q],
) {
    // SAFETY: words of the tile's block: those of all rows, or of one row four groups together. Behind the last group
    // there are at least 5 more words.
    let [a, b] = unsafe {
        match R {
            1 => [vld1q_s8(x.add(I / 2 * 4).cast()); 2],
            _ => [vld1q_s8(x.add(2 * I * R).cast()), vld1q_s8(x.add((2 * I + 1) * R).cast())],
        }
    };
    for q in 0..Q {
        // SAFETY: a quarter of the block; the caller has the instruction.
        unsafe {
            let [first, second] = unpack_signed::<F, I>(data, quarter + q);
            let sums = &mut sums[q];
            match (R, I % 2) {
                (1, 0) => sums[0] = sdot::<1>(sdot::<0>(sums[0], first, a), second, b),
                (1, _) => sums[0] = sdot::<3>(sdot::<2>(sums[0], first, a), second, b),
                _ => add_rows(sums, [first, second], [a, b]),
            }
        }
    }
}

/// Adds the products of two groups of 2 to 4 rows; row `r` has word `r` of `x`.
///
/// # Safety
/// `sdot`.
#[inline(always)]
unsafe fn add_rows<const R: usize>(sums: &mut [int32x4_t; R], w: [int8x16_t; 2], x: [int8x16_t; 2]) {
    for g in 0..2 {
        for r in 0..R {
            // SAFETY: the caller's promise.
            sums[r] = unsafe {
                match r {
                    0 => sdot::<0>(sums[r], w[g], x[g]),
                    1 => sdot::<1>(sums[r], w[g], x[g]),
                    2 => sdot::<2>(sums[r], w[g], x[g]),
                    _ => sdot::<3>(sums[r], w[g], x[g]),
                }
            };
        }
    }
}

/// Adds to each of four sums the product of its four weights with the four values of word `WORD`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const WORD: usize>(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the function is only called where the CPU has the instruction, which touches registers alone.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[{word}]",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x, word = const WORD,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
