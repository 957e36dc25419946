//! Packed matmul with NEON: quarter panels of 4 lanes. The sets differ in how they sum products of integers.

mod blocks;
mod dots;
mod floats;
mod matrices;
mod quantize;
mod unpack;
mod widening;
mod words;

use crate::blocks::DType;
use crate::packed::kernels::{PackedKernels, Task, run_stored_type};
use crate::packed::layout::{LANES, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use blocks::{Integers, run_blocks};
use dots::Dots;
use floats::{Bf16, F16, F32, run_floats};
use matrices::Matrices;
use quantize::quantize;
use std::arch::aarch64::*;
use widening::Widening;

/// For NEON alone.
pub(crate) const NEON: PackedKernels = kernels::<Widening>();
/// With dot products of signed bytes.
pub(crate) const DOTPROD: PackedKernels = kernels::<Dots>();
/// With products of byte matrices.
pub(crate) const I8MM: PackedKernels = kernels::<Matrices>();

/// Lanes of a quarter of a panel.
const QUARTER: usize = 4;
/// Quarters of a panel.
const QUARTERS: usize = LANES / QUARTER;
/// Most rows of a tile: with them the sums of a whole panel take 16 of the 32 registers.
const ROWS: usize = 4;

const fn kernels<I: Integers>() -> PackedKernels {
    PackedKernels { pack: words::pack, tile_rows: ROWS, quantize, matmul: matmul::<I> }
}

/// # Safety
/// The instructions of `I`; what [`Task::y`] says.
unsafe fn matmul<I: Integers>(task: &Task<'_>) {
    // SAFETY: the caller's promises are those of each of these.
    unsafe { run_stored_type!(task, I) }
}

/// One panel times one tile: where both lie and where the outputs go.
#[derive(Clone, Copy)]
struct Place<X> {
    w: *const u8,
    x: *const X,
    /// Blocks (or values, for floats) of a row.
    len: usize,
    /// First row, first column of the panel.
    out: *mut f32,
    /// Floats from row to row.
    stride: usize,
    /// Columns up to the end of the matrix.
    columns: usize,
}

/// Calls `run` with every panel and tile of a task, and the rows of the tile.
///
/// # Safety
/// What [`Task::y`] says.
#[inline(always)]
unsafe fn for_each_place<X>(
    task: &Task<'_>,
    len: usize,
    tile_start: impl Fn(usize) -> *const X,
    run: impl Fn(Place<X>, usize),
) {
    let stride = task.w.rows();
    for panel in task.panels.clone() {
        let w = task.w.panel(panel).as_ptr();
        for tile in task.tiles.clone() {
            let rows = task.x.tiles().range(tile);
            // SAFETY: the row and column lie inside `y`.
            let out = unsafe { task.y.add(rows.start * stride + panel * LANES) };
            let place = Place { w, x: tile_start(tile), len, out, stride, columns: stride - panel * LANES };
            run(place, rows.len());
        }
    }
}

/// Stores a panel's outputs, as far as the matrix goes.
///
/// # Safety
/// NEON; `R` rows of these columns may be written.
#[inline(always)]
unsafe fn store<X, const R: usize>(place: Place<X>, acc: [[float32x4_t; R]; QUARTERS]) {
    for (q, rows) in acc.into_iter().enumerate() {
        let column = q * QUARTER;
        let lanes = QUARTER.min(place.columns.saturating_sub(column));
        for (r, v) in rows.into_iter().enumerate() {
            let to = place.out.wrapping_add(r * place.stride + column);
            let mut values = [0.0f32; QUARTER];
            // SAFETY: 4 floats; then only columns of the matrix, in rows that the caller gives.
            unsafe {
                if lanes == QUARTER {
                    vst1q_f32(to, v);
                } else {
                    vst1q_f32(values.as_mut_ptr(), v);
                    std::ptr::copy_nonoverlapping(values.as_ptr(), to, lanes);
                }
            }
        }
    }
}
