//! Sums of products with the instructions of i8mm: `usmmla` multiplies two rows of eight unsigned bytes with two columns
//! of eight signed ones; `usdot` is the dot product of four for a single row.
//!
//! They are written in assembly, because their intrinsics are not stable.

#![expect(clippy::needless_range_loop, reason = "quarters and rows index several arrays of sums at once")]

use super::Place;
use super::blocks::{Integers, block_tile};
use super::unpack::unpack;
use crate::packed::layout::Format;
use std::arch::aarch64::*;
use std::arch::asm;

/// Sums with `usmmla`, and with `usdot` for a single row.
pub(super) struct Matrices;

/// Sums of rows 0 and 1, then of rows 2 and 3: of lanes 0 and 1, then of lanes 2 and 3, as a matrix `[lane, row]`.
type Squares = [[int32x4_t; 2]; 2];

impl Integers for Matrices {
    const SIGNED_BYTES: bool = false;

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
            if R == 1 {
                if FIRST == 0 {
                    add_row::<F, Q, R, 0>(data, quarter, x, &mut sums);
                    add_row::<F, Q, R, 1>(data, quarter, x, &mut sums);
                }
                if END == 4 {
                    add_row::<F, Q, R, 2>(data, quarter, x, &mut sums);
                    add_row::<F, Q, R, 3>(data, quarter, x, &mut sums);
                }
                return sums;
            }
            let mut squares = [[[vdupq_n_s32(0); 2]; 2]; Q];
            if FIRST == 0 {
                add_pair::<F, Q, R, 0>(data, quarter, x, &mut squares);
                add_pair::<F, Q, R, 1>(data, quarter, x, &mut squares);
            }
            if END == 4 {
                add_pair::<F, Q, R, 2>(data, quarter, x, &mut squares);
                add_pair::<F, Q, R, 3>(data, quarter, x, &mut squares);
            }
            for q in 0..Q {
                for r in 0..R {
                    let [low, high] = squares[q][r / 2];
                    sums[q][r] = if r % 2 == 0 { vuzp1q_s32(low, high) } else { vuzp2q_s32(low, high) };
                }
            }
            sums
        }
    }

    #[target_feature(enable = "neon,dotprod,i8mm")]
    unsafe fn tile<F: Format, const R: usize>(place: Place<u32>) {
        // SAFETY: the caller's promise.
        unsafe { block_tile::<Self, F, R>(place) };
    }
}

/// Adds the products of groups `2 I` and `2 I + 1` of a single row.
///
/// # Safety
/// As [`Integers::sums`].
#[inline(always)]
unsafe fn add_row<F: Format, const Q: usize, const R: usize, const I: usize>(
    data: *const u8,
    quarter: usize,
    x: *const u32,
    sums: &mut [[int32x4_t; R]; Q],
) {
    for q in 0..Q {
        // SAFETY: four groups of the tile's block, a quarter of the block of weights; the caller has the instruction.
        unsafe {
            let x = vld1q_s8(x.add(I / 2 * 4).cast());
            let [first, second] = unpack::<F, I>(data, quarter + q);
            sums[q][0] = match I % 2 {
                0 => usdot::<1>(usdot::<0>(sums[q][0], first, x), second, x),
                _ => usdot::<3>(usdot::<2>(sums[q][0], first, x), second, x),
            };
        }
    }
}

/// Adds the products of groups `2 I` and `2 I + 1`, eight values together, of 2 to 4 rows.
///
/// # Safety
/// As [`Integers::sums`].
#[inline(always)]
unsafe fn add_pair<F: Format, const Q: usize, const R: usize, const I: usize>(
    data: *const u8,
    quarter: usize,
    x: *const u32,
    sums: &mut [Squares; Q],
) {
    // SAFETY: words of the tile's block, those of all rows, with more words behind the last group; quarters of the
    // block of weights; the caller has the instructions.
    unsafe {
        let [first, second] = [vld1q_s32(x.add(2 * I * R).cast()), vld1q_s32(x.add((2 * I + 1) * R).cast())];
        // Both groups of rows 0 and 1, then of rows 2 and 3. What stands in place of a row that is not there makes sums
        // that nobody reads.
        let rows = [vzip1q_s32(first, second), vzip2q_s32(first, second)];
        for q in 0..Q {
            let [first, second] = unpack::<F, I>(data, quarter + q);
            let (first, second) = (vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(second));
            let lanes = [vzip1q_u32(first, second), vzip2q_u32(first, second)];
            for pair in 0..R.div_ceil(2) {
                let rows = vreinterpretq_s8_s32(rows[pair]);
                for half in 0..2 {
                    let lanes = vreinterpretq_u8_u32(lanes[half]);
                    sums[q][pair][half] = usmmla(sums[q][pair][half], lanes, rows);
                }
            }
        }
    }
}

/// Adds to each of four sums the product of its four weights with the four values of word `WORD`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot<const WORD: usize>(mut sums: int32x4_t, w: uint8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the function is only called where the CPU has the instruction, which touches registers alone.
    unsafe {
        asm!(
            "usdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[{word}]",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x, word = const WORD,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds the product of two lanes of eight weights with two rows of eight values: `[lane, row]`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usmmla(mut sums: int32x4_t, w: uint8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: as in `usdot`.
    unsafe {
        asm!(
            "usmmla {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
