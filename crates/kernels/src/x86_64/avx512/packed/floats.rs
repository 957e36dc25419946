//! Packed matmul of float weights with AVX-512.

#![expect(
    clippy::needless_range_loop,
    reason = "panels and rows index several arrays of accumulators at once"
)]

use super::unpack::halves;
use super::{AHEAD, Output, TILE_ROWS, panels_together, prefetch, with_tile_size};
use crate::packed::kernels::Task;
use crate::packed::layout::LANES;
use std::arch::x86_64::*;

/// A float format of weights.
pub(super) trait Float {
    /// Bytes of a value.
    const BYTES: usize;

    /// 16 values as f32.
    ///
    /// # Safety
    /// AVX-512 F; 16 values lie at `at`.
    unsafe fn load(at: *const u8) -> __m512;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { halves(at, 0) }
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
}

/// # Safety
/// As [`matmul`](super::matmul).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run_floats<F: Float>(task: &Task<'_>) {
    let columns = task.w.rows();
    let cols = task.w.cols();
    let mut panel = task.panels.start;
    while panel < task.panels.end {
        let together = panels_together(task.x.tiles().range(task.tiles.start).len());
        let panels = (task.panels.end - panel).min(together);
        let w = task.w.panel(panel).as_ptr();
        for tile in task.tiles.clone() {
            let rows = task.x.tiles().range(tile);
            let x = task.x.float_tile(tile).as_ptr();
            let first = panel * LANES;
            // SAFETY: the row and column lie inside `y`.
            let start = unsafe { task.y.add(rows.start * columns + first) };
            let out = Output { start, stride: columns, columns: columns - first };
            let sizes = [cols, task.w.panel_bytes()];
            // SAFETY: the panels and the tile have `cols` values a row; the outputs belong to the task.
            unsafe { with_tile_size!(panels, rows.len(), float_tile::<F>(w, sizes, x, out)) }
        }
        panel += panels;
    }
}

/// `P` panels times `R` rows; `sizes` are values of a row and bytes of a panel.
///
/// # Safety
/// AVX-512 F. At `w` lie `P` panels of that size, at `x` a tile `[cols, R]`; `out` may be written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn float_tile<F: Float, const P: usize, const R: usize>(
    w: *const u8,
    [cols, panel_bytes]: [usize; 2],
    x: *const f32,
    out: Output,
) {
    let mut acc = [[_mm512_setzero_ps(); R]; P];
    for k in 0..cols {
        if R <= 2 {
            prefetch::<P>(w.wrapping_add(AHEAD + k * LANES * F::BYTES), panel_bytes, 1);
        }
        // SAFETY: inside the panels and the tile.
        unsafe {
            let weights: [__m512; P] =
                std::array::from_fn(|p| F::load(w.add(p * panel_bytes + k * LANES * F::BYTES)));
            for r in 0..R {
                let value = _mm512_set1_ps(x.add(k * R + r).read());
                for p in 0..P {
                    acc[p][r] = _mm512_fmadd_ps(weights[p], value, acc[p][r]);
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { out.store(acc) };
}
