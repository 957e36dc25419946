//! Packing f32 panels with vectors of 16 lanes.

use super::vector::Avx512;
use crate::simd::Simd;
use crate::simd::pack::Packer;

/// Panels of a multiple of 16 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Pack16(pub Avx512);

impl Packer for Pack16 {
    const LANES: usize = 16;
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn square(self, to: *mut u32, width: usize, from: *const f32, lane_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.transpose_ptr(from, lane_stride, to.cast(), width) };
    }

    #[inline(always)]
    unsafe fn row(self, to: *mut u32, from: *const f32, _k_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_ptr(to.cast(), self.0.load_ptr(from)) }
    }

    #[inline(always)]
    fn word(self, [value, _]: [f32; 2]) -> u32 {
        value.to_bits()
    }
}
