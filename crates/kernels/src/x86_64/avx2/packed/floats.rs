//! Packed matmul of float weights with AVX2.

#![expect(
    clippy::needless_range_loop,
    reason = "halves and rows index several arrays of accumulators at once"
)]

use super::unpack::halves;
use super::{AHEAD, HALF, Place, TILE_ROWS, store};
use crate::packed::kernels::Task;
use crate::packed::layout::LANES;
use std::arch::x86_64::*;

/// A float format of weights.
pub(super) trait Float {
    /// Bytes of a value.
    const BYTES: usize;

    /// 8 values as f32.
    ///
    /// # Safety
    /// AVX2, F16C; 8 values lie at `at`.
    unsafe fn load(at: *const u8) -> __m256;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { halves(at, 0, 0) }
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }
}

/// # Safety
/// As [`matmul`](super::matmul).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_floats<F: Float>(task: &Task<'_>) {
    for panel in task.panels.clone() {
        for tile in task.tiles.clone() {
            let x = task.x.float_tile(tile).as_ptr();
            // SAFETY: the place is one of the task.
            unsafe {
                let place = Place::new(task, [panel, tile], task.w.cols(), x);
                match task.x.tiles().range(tile).len() {
                    1 => float_tile::<F, 1>(place),
                    2 => float_tile::<F, 2>(place),
                    3 => float_tile::<F, 3>(place),
                    _ => float_tile::<F, TILE_ROWS>(place),
                }
            }
        }
    }
}

/// A panel times `R` rows.
///
/// # Safety
/// AVX2, FMA, F16C; `place` has a panel and a tile `[len, R]`, and outputs that may be written.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float_tile<F: Float, const R: usize>(place: Place<f32>) {
    let mut acc = [[_mm256_setzero_ps(); R]; 2];
    for k in 0..place.len {
        // SAFETY: inside the panel and the tile.
        unsafe {
            let at = place.w.add(k * LANES * F::BYTES);
            if place.prefetch {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
            }
            let weights = [F::load(at), F::load(at.add(HALF * F::BYTES))];
            for r in 0..R {
                let value = _mm256_set1_ps(place.x.add(k * R + r).read());
                for h in 0..2 {
                    acc[h][r] = _mm256_fmadd_ps(weights[h], value, acc[h][r]);
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { store(place, 0, acc) };
}
