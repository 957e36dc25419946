//! The inner loops over blocks with AVX2: exact integer sums, rescaled per block.

#![expect(
    clippy::needless_range_loop,
    reason = "halves and rows index several arrays of accumulators at once"
)]

use super::dots::Dots;
use super::unpack::{minimum, scale, unpack};
use super::{AHEAD, Place, TILE_ROWS, store};
use crate::packed::TILE_WORDS;
use crate::packed::activations::{SCALE, SCALED_SUM, offset_words};
use crate::packed::kernels::Task;
use crate::packed::layout::{BLOCK, Format, VECTOR};
use std::arch::x86_64::*;

/// # Safety
/// The instructions of `D`, which are AVX2, FMA, F16C and perhaps more; what [`Task::y`] says.
#[inline(always)]
pub(super) unsafe fn run_blocks<F: Format, D: Dots>(task: &Task<'_>) {
    // No closures here: they would be compiled without the instructions.
    for panel in task.panels.clone() {
        for tile in task.tiles.clone() {
            let x = task.x.block_tile(tile).as_ptr();
            // SAFETY: the place is one of the task; half a panel starts at lane 0 or 8.
            unsafe {
                let place = Place::new(task, [panel, tile], task.w.cols() / BLOCK, x);
                match task.x.tiles().range(tile).len() {
                    1 => block_tile::<F, D, 2, 1>(place, 0),
                    2 => block_tile::<F, D, 2, 2>(place, 0),
                    3 => {
                        block_tile::<F, D, 1, 3>(place, 0);
                        block_tile::<F, D, 1, 3>(place, 1);
                    }
                    _ => {
                        block_tile::<F, D, 1, TILE_ROWS>(place, 0);
                        block_tile::<F, D, 1, TILE_ROWS>(place, 1);
                    }
                }
            }
        }
    }
}

/// `H` half panels (from half `first` on) times `R` rows.
///
/// # Safety
/// The instructions of `D`; `place` has a panel and a tile of `R` rows of as many blocks, and outputs that may be written.
#[inline(always)]
unsafe fn block_tile<F: Format, D: Dots, const H: usize, const R: usize>(place: Place<u32>, first: usize) {
    let layout = F::LAYOUT;
    // SAFETY: the caller has the instructions.
    let mut acc = [[unsafe { _mm256_setzero_ps() }; R]; H];
    let mut x = place.x;
    for b in 0..place.len {
        let (unit, slot) = (b / layout.unit_blocks(), b % layout.unit_blocks());
        let unit = place.w.wrapping_add(unit * layout.unit_bytes());
        if place.prefetch && first == 0 {
            let lines = layout.lines_per_block();
            for line in slot * lines..(slot + 1) * lines {
                let ahead = unit.wrapping_add(AHEAD + line * VECTOR);
                // SAFETY: a prefetch of any address has no effect but on the cache.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) };
            }
        }
        // SAFETY: `slot` is a block of this unit, and `x` stands at the same block.
        unsafe { block::<F, D, H, R>(unit, slot, first, x, &mut acc) };
        x = x.wrapping_add(R * TILE_WORDS);
    }
    // SAFETY: the caller's promise.
    unsafe { store(place, first, acc) };
}

/// One block of every row and half.
///
/// # Safety
/// As [`block_tile`], for block `slot` of the unit at `unit` and the block of the tile at `x`.
#[inline(always)]
unsafe fn block<F: Format, D: Dots, const H: usize, const R: usize>(
    unit: *const u8,
    slot: usize,
    first: usize,
    x: *const u32,
    acc: &mut [[__m256; R]; H],
) {
    let layout = F::LAYOUT;
    let parts = layout.scales_per_block();
    let data = unit.wrapping_add(layout.head_bytes() + slot * layout.block_bytes());
    let word = |at: usize, r: usize| x.wrapping_add(at * R + r);
    for h in 0..H {
        let half = first + h;
        for part in 0..parts {
            // SAFETY: all reads are inside the unit's block and head, or the tile's block.
            unsafe {
                let mut starts = [_mm256_setzero_si256(); R];
                if let Some(bits) = layout.offset_bits {
                    let (at, shift) = offset_words(layout, bits, part);
                    for r in 0..R {
                        let minus_sum = _mm256_set1_epi32(word(at, r).cast::<i32>().read());
                        starts[r] = _mm256_sll_epi32(minus_sum, _mm_cvtsi32_si128(shift as i32));
                    }
                }
                let mut sums = [_mm256_setzero_si256(); R];
                for r in 0..R {
                    sums[r] = D::begin::<F>(starts[r]);
                }
                if parts == 1 || part == 0 {
                    two_groups::<F, D, R, 0>(data, half, x, &mut sums);
                    two_groups::<F, D, R, 1>(data, half, x, &mut sums);
                }
                if parts == 1 || part == 1 {
                    two_groups::<F, D, R, 2>(data, half, x, &mut sums);
                    two_groups::<F, D, R, 3>(data, half, x, &mut sums);
                }
                let scale = scale::<F>(unit, slot, part, half);
                for r in 0..R {
                    let sum = D::finish::<F>(sums[r], starts[r]);
                    let both = _mm256_mul_ps(scale, _mm256_set1_ps(word(SCALE, r).cast::<f32>().read()));
                    acc[h][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), both, acc[h][r]);
                }
            }
        }
        if layout.has_min() {
            // SAFETY: as above.
            unsafe {
                let min = minimum::<F>(unit, slot, half);
                for r in 0..R {
                    let sum = _mm256_set1_ps(word(SCALED_SUM, r).cast::<f32>().read());
                    acc[h][r] = _mm256_fmadd_ps(min, sum, acc[h][r]);
                }
            }
        }
    }
}

/// Adds groups `2 I` and `2 I + 1` to the sums.
///
/// # Safety
/// As [`block`], with the block's data at `data`.
#[inline(always)]
unsafe fn two_groups<F: Format, D: Dots, const R: usize, const I: usize>(
    data: *const u8,
    half: usize,
    x: *const u32,
    sums: &mut [__m256i; R],
) {
    // SAFETY: all reads are inside the block or the tile's block.
    unsafe {
        let weights = D::prepare::<F>(unpack::<F, I>(data, half));
        let four = |g: usize, r: usize| _mm256_set1_epi32(x.add((2 * I + g) * R + r).cast::<i32>().read());
        for r in 0..R {
            sums[r] = D::add::<F>(sums[r], weights, [four(0, r), four(1, r)]);
        }
    }
}
