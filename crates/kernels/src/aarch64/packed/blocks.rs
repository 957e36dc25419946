//! The loops over blocks with NEON: sums of int8 products, rescaled per block.

#![expect(clippy::needless_range_loop, reason = "quarters and rows index several arrays of sums at once")]

use super::unpack::{minimum, scale};
use super::{Place, QUARTERS, for_each_place, store};
use crate::packed::TILE_WORDS;
use crate::packed::activations::{SCALE, SCALED_SUM, offset_words};
use crate::packed::kernels::Task;
use crate::packed::layout::{BLOCK, Format};
use std::arch::aarch64::*;

/// How a set sums products of integers.
pub(super) trait Integers {
    /// Whether weights of 8 bits are multiplied as the signed integers they stand for, without an offset.
    const SIGNED_BYTES: bool;

    /// Quarters of a panel whose sums are computed side by side, 1, 2 or 4, so that sums of `rows` rows and what they
    /// are made of fit the registers.
    fn quarters(rows: usize) -> usize;

    /// Sums of products of the pairs of groups `FIRST..END`, for `Q` quarters from `quarter` on and `R` rows.
    ///
    /// # Safety
    /// The instructions of the set; a block of the format lies at `data`, and a block of a tile of `R` rows at `x`.
    unsafe fn sums<F: Format, const Q: usize, const R: usize, const FIRST: usize, const END: usize>(
        data: *const u8,
        quarter: usize,
        x: *const u32,
    ) -> [[int32x4_t; R]; Q];

    /// [`block_tile`], compiled for the set.
    ///
    /// # Safety
    /// The instructions of the set; what [`block_tile`] says.
    unsafe fn tile<F: Format, const R: usize>(place: Place<u32>);
}

/// # Safety
/// As [`matmul`](super::matmul).
pub(super) unsafe fn run_blocks<F: Format, I: Integers>(task: &Task<'_>) {
    // SAFETY: the places are those of the task.
    unsafe {
        let start = |tile| task.x.block_tile(tile).as_ptr();
        for_each_place(task, task.w.cols() / BLOCK, start, |place, rows| match rows {
            1 => I::tile::<F, 1>(place),
            2 => I::tile::<F, 2>(place),
            3 => I::tile::<F, 3>(place),
            _ => I::tile::<F, 4>(place),
        });
    }
}

/// A panel times `R` rows.
///
/// # Safety
/// The instructions of `I`; `place` has a panel and a tile of `R` rows of as many blocks, and outputs that may be
/// written.
#[inline(always)]
pub(super) unsafe fn block_tile<I: Integers, F: Format, const R: usize>(place: Place<u32>) {
    let layout = F::LAYOUT;
    // SAFETY: the caller has NEON.
    let mut acc = unsafe { [[vdupq_n_f32(0.0); R]; QUARTERS] };
    let mut x = place.x;
    for b in 0..place.len {
        let (unit, slot) = (b / layout.unit_blocks(), b % layout.unit_blocks());
        let unit = place.w.wrapping_add(unit * layout.unit_bytes());
        // SAFETY: `slot` is a block of this unit, and `x` stands at the same block.
        unsafe {
            match I::quarters(R) {
                4 => block::<I, F, 4, R>(unit, slot, x, &mut acc),
                2 => block::<I, F, 2, R>(unit, slot, x, &mut acc),
                _ => block::<I, F, 1, R>(unit, slot, x, &mut acc),
            }
        }
        x = x.wrapping_add(R * TILE_WORDS);
    }
    // SAFETY: the caller's promise.
    unsafe { store(place, acc) };
}

/// One block of every row and quarter, `Q` quarters at a time.
///
/// # Safety
/// As [`block_tile`], for block `slot` of the unit at `unit` and the block of the tile at `x`.
#[inline(always)]
unsafe fn block<I: Integers, F: Format, const Q: usize, const R: usize>(
    unit: *const u8,
    slot: usize,
    x: *const u32,
    acc: &mut [[float32x4_t; R]; QUARTERS],
) {
    let layout = F::LAYOUT;
    let data = unit.wrapping_add(layout.head_bytes() + slot * layout.block_bytes());
    for step in 0..QUARTERS / Q {
        let quarter = step * Q;
        // SAFETY: all reads are inside the unit's block and head, or the tile's block.
        unsafe {
            if layout.scales_per_block() == 1 {
                let sums = I::sums::<F, Q, R, 0, 4>(data, quarter, x);
                add_part::<I, F, Q, R>((unit, slot, 0), quarter, x, sums, acc);
            } else {
                let sums = I::sums::<F, Q, R, 0, 2>(data, quarter, x);
                add_part::<I, F, Q, R>((unit, slot, 0), quarter, x, sums, acc);
                let sums = I::sums::<F, Q, R, 2, 4>(data, quarter, x);
                add_part::<I, F, Q, R>((unit, slot, 1), quarter, x, sums, acc);
            }
            if layout.has_min() {
                for q in quarter..quarter + Q {
                    let min = minimum::<F>(unit, slot, q);
                    for r in 0..R {
                        let sum = x.add(SCALED_SUM * R + r).cast::<f32>().read();
                        acc[q][r] = vfmaq_n_f32(acc[q][r], min, sum);
                    }
                }
            }
        }
    }
}

/// Adds the sums of one part of a block, scaled.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn add_part<I: Integers, F: Format, const Q: usize, const R: usize>(
    (unit, slot, part): (*const u8, usize, usize),
    quarter: usize,
    x: *const u32,
    sums: [[int32x4_t; R]; Q],
    acc: &mut [[float32x4_t; R]; QUARTERS],
) {
    let layout = F::LAYOUT;
    for q in 0..Q {
        // SAFETY: all reads are inside the unit's head or the tile's block.
        unsafe {
            let scale = scale::<F>(unit, slot, part, quarter + q);
            for r in 0..R {
                let mut sum = sums[q][r];
                if !(layout.bits == 8 && I::SIGNED_BYTES)
                    && let Some(bits) = layout.offset_bits
                {
                    let (at, shift) = offset_words(layout, bits, part);
                    let minus_sum = x.add(at * R + r).cast::<i32>().read();
                    sum = vaddq_s32(sum, vdupq_n_s32(minus_sum << shift));
                }
                let both = vmulq_n_f32(scale, x.add(SCALE * R + r).cast::<f32>().read());
                let acc = &mut acc[quarter + q][r];
                *acc = vfmaq_f32(*acc, vcvtq_f32_s32(sum), both);
            }
        }
    }
}
