//! Packing f32 panels with 6 lanes at a time.

use super::super::transpose::transpose_8;
use super::vector::Avx2;
use crate::simd::Simd;
use crate::simd::pack::Packer;

/// Panels of 6 lanes.
#[derive(Clone, Copy)]
pub(super) struct Pack6(pub Avx2);

impl Packer for Pack6 {
    const LANES: usize = 6;
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn square(self, to: *mut u32, width: usize, from: *const f32, lane_stride: usize) {
        let mut rows = [self.0.splat(0.0); 8];
        // SAFETY: the caller's promise; `self` proves that the CPU has AVX2.
        unsafe {
            for (lane, row) in rows.iter_mut().take(6).enumerate() {
                *row = self.0.load_first_ptr(from.add(lane * lane_stride), 6);
            }
            for (word, row) in transpose_8(rows).into_iter().take(6).enumerate() {
                self.0.store_first_ptr(to.add(word * width).cast(), 6, row);
            }
        }
    }

    #[inline(always)]
    unsafe fn row(self, to: *mut u32, from: *const f32, _k_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_first_ptr(to.cast(), 6, self.0.load_first_ptr(from, 6)) }
    }

    #[inline(always)]
    fn word(self, [value, _]: [f32; 2]) -> u32 {
        value.to_bits()
    }
}
