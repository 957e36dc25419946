//! Packed matmul of float weights with NEON.

use super::unpack::four_halves;
use super::{Place, QUARTER, QUARTERS, for_each_place, store};
use crate::packed::kernels::Task;
use crate::packed::layout::LANES;
use std::arch::aarch64::*;

/// A float format of weights.
pub(super) trait Float {
    /// Bytes of a value.
    const BYTES: usize;

    /// 4 values as f32.
    ///
    /// # Safety
    /// NEON; 4 values lie at `at`.
    unsafe fn load(at: *const u8) -> float32x4_t;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(at.cast()) }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { four_halves(at) }
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(at.cast()))) }
    }
}

/// # Safety
/// What [`Task::y`] says.
pub(super) unsafe fn run_floats<F: Float>(task: &Task<'_>) {
    // SAFETY: the places are those of the task.
    unsafe {
        let start = |tile| task.x.float_tile(tile).as_ptr();
        for_each_place(task, task.w.cols(), start, |place, rows| match rows {
            1 => float_tile::<F, 1>(place),
            2 => float_tile::<F, 2>(place),
            3 => float_tile::<F, 3>(place),
            _ => float_tile::<F, 4>(place),
        });
    }
}

/// A panel times `R` rows.
///
/// # Safety
/// NEON; `place` has a panel and a tile `[len, R]`, and outputs that may be written.
#[target_feature(enable = "neon")]
unsafe fn float_tile<F: Float, const R: usize>(place: Place<f32>) {
    let mut acc = [[vdupq_n_f32(0.0); R]; QUARTERS];
    for k in 0..place.len {
        // SAFETY: inside the panel and the tile.
        unsafe {
            let at = place.w.add(k * LANES * F::BYTES);
            let x = place.x.add(k * R);
            for (q, rows) in acc.iter_mut().enumerate() {
                let weights = F::load(at.add(QUARTER * q * F::BYTES));
                for (r, acc) in rows.iter_mut().enumerate() {
                    *acc = vfmaq_n_f32(*acc, weights, x.add(r).read());
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { store(place, acc) };
}
