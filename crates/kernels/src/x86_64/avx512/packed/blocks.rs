//! The inner loops over blocks with AVX-512: exact integer sums, rescaled per block.

#![expect(
    clippy::needless_range_loop,
    reason = "panels and rows index several arrays of accumulators at once"
)]

use super::dots::Dots;
use super::unpack::{minimum, scale, unpack};
use super::{AHEAD, Output, TILE_ROWS, panels_together, prefetch, with_tile_size};
use crate::packed::TILE_WORDS;
use crate::packed::activations::{SCALE, SCALED_SUM, offset_words};
use crate::packed::kernels::Task;
use crate::packed::layout::{BLOCK, Format, LANES, VECTOR};
use std::arch::x86_64::*;

/// # Safety
/// The instructions of `D`, which are AVX-512 F, BW, DQ, VL and perhaps more; what [`Task::y`] says.
#[inline(always)]
pub(super) unsafe fn run_blocks<F: Format, D: Dots>(task: &Task<'_>) {
    let columns = task.w.rows();
    let num_blocks = task.w.cols() / BLOCK;
    let together = panels_together(task.x.tiles().range(task.tiles.start).len());
    let mut panel = task.panels.start;
    while panel < task.panels.end {
        let panels = (task.panels.end - panel).min(together);
        let w = task.w.panel(panel).as_ptr();
        for tile in task.tiles.clone() {
            let rows = task.x.tiles().range(tile);
            let x = task.x.block_tile(tile).as_ptr();
            let first = panel * LANES;
            let first_pass = tile == task.tiles.start;
            // SAFETY: the row and column lie inside `y`.
            let start = unsafe { task.y.add(rows.start * columns + first) };
            let out = Output { start, stride: columns, columns: columns - first };
            // SAFETY: the panels and the tile have `num_blocks` blocks; the outputs belong to the task.
            unsafe {
                with_tile_size!(panels, rows.len(), block_tile::<F, D>(w, num_blocks, x, first_pass, out))
            }
        }
        panel += panels;
    }
}

/// `P` panels times `R` rows; a first pass over the panels asks for their bytes ahead.
///
/// # Safety
/// The instructions of `D`. At `w` lie `P` panels of `num_blocks` blocks, at `x` a tile of `R` rows of as many;
/// `out` may be written.
#[inline(always)]
unsafe fn block_tile<F: Format, D: Dots, const P: usize, const R: usize>(
    w: *const u8,
    num_blocks: usize,
    mut x: *const u32,
    first_pass: bool,
    out: Output,
) {
    let layout = F::LAYOUT;
    let panel_bytes = layout.panel_bytes(num_blocks);
    // SAFETY: the caller has the instructions.
    let mut acc = [[unsafe { _mm512_setzero_ps() }; R]; P];
    let mut unit = w;
    let mut left = num_blocks;
    while left > 0 {
        let here = left.min(layout.unit_blocks());
        for slot in 0..here {
            if first_pass {
                // A few lines with every block: more at once than a core can wait for would stall it.
                let share = layout.lines_per_block() * VECTOR;
                prefetch::<P>(unit.wrapping_add(AHEAD + slot * share), panel_bytes, share);
            }
            // SAFETY: `slot` is a block of this unit of each panel, and `x` stands at the same block.
            unsafe {
                block::<F, D, P, R>(unit, panel_bytes, slot, x, &mut acc);
                x = x.add(R * TILE_WORDS);
            }
        }
        left -= here;
        unit = unit.wrapping_add(layout.unit_bytes());
    }
    // SAFETY: the caller's promise.
    unsafe { out.store(acc) };
}

/// One block of every row and panel.
///
/// # Safety
/// As [`block_tile`], for block `slot` of the units at `unit` and the block of the tile at `x`.
#[inline(always)]
unsafe fn block<F: Format, D: Dots, const P: usize, const R: usize>(
    unit: *const u8,
    panel_bytes: usize,
    slot: usize,
    x: *const u32,
    acc: &mut [[__m512; R]; P],
) {
    let layout = F::LAYOUT;
    let parts = layout.scales_per_block();
    let data = unit.wrapping_add(layout.head_bytes() + slot * layout.block_bytes());
    let word = |at: usize, r: usize| x.wrapping_add(at * R + r);
    for part in 0..parts {
        // SAFETY: all reads are inside the unit's block and head, or the tile's block.
        unsafe {
            let mut starts = [_mm512_setzero_si512(); R];
            if let Some(bits) = layout.offset_bits {
                let (at, shift) = offset_words(layout, bits, part);
                for r in 0..R {
                    let minus_sum = _mm512_set1_epi32(word(at, r).cast::<i32>().read());
                    starts[r] = _mm512_sll_epi32(minus_sum, _mm_cvtsi32_si128(shift as i32));
                }
            }
            let mut sums = [[_mm512_setzero_si512(); R]; P];
            for p in 0..P {
                for r in 0..R {
                    sums[p][r] = D::begin::<F>(starts[r]);
                }
            }
            if parts == 1 || part == 0 {
                two_groups::<F, D, P, R, 0>(data, panel_bytes, x, &mut sums);
                two_groups::<F, D, P, R, 1>(data, panel_bytes, x, &mut sums);
            }
            if parts == 1 || part == 1 {
                two_groups::<F, D, P, R, 2>(data, panel_bytes, x, &mut sums);
                two_groups::<F, D, P, R, 3>(data, panel_bytes, x, &mut sums);
            }
            for p in 0..P {
                let scale = scale::<F>(unit.wrapping_add(p * panel_bytes), slot, part);
                for r in 0..R {
                    let both = _mm512_mul_ps(scale, _mm512_set1_ps(word(SCALE, r).cast::<f32>().read()));
                    acc[p][r] = _mm512_fmadd_ps(
                        _mm512_cvtepi32_ps(D::finish::<F>(sums[p][r], starts[r])),
                        both,
                        acc[p][r],
                    );
                }
            }
        }
    }
    if layout.has_min() {
        for p in 0..P {
            // SAFETY: as above.
            unsafe {
                let min = minimum::<F>(unit.wrapping_add(p * panel_bytes), slot);
                for r in 0..R {
                    let sum = _mm512_set1_ps(word(SCALED_SUM, r).cast::<f32>().read());
                    acc[p][r] = _mm512_fmadd_ps(min, sum, acc[p][r]);
                }
            }
        }
    }
}

/// Adds groups `2 I` and `2 I + 1` to the sums.
///
/// # Safety
/// As [`block`], with the blocks' data at `data`.
#[inline(always)]
unsafe fn two_groups<F: Format, D: Dots, const P: usize, const R: usize, const I: usize>(
    data: *const u8,
    panel_bytes: usize,
    x: *const u32,
    sums: &mut [[__m512i; R]; P],
) {
    // SAFETY: all reads are inside the block or the tile's block.
    unsafe {
        let mut weights = [[_mm512_setzero_si512(); 2]; P];
        for p in 0..P {
            weights[p] = D::prepare::<F>(unpack::<F, I>(data.wrapping_add(p * panel_bytes)));
        }
        let four = |g: usize, r: usize| _mm512_set1_epi32(x.add((2 * I + g) * R + r).cast::<i32>().read());
        for r in 0..R {
            let x = [four(0, r), four(1, r)];
            for p in 0..P {
                sums[p][r] = D::add::<F>(sums[p][r], weights[p], x);
            }
        }
    }
}
