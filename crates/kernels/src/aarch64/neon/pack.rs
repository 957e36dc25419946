//! Packing f32 panels with 4 lanes at a time.

use super::vector::Neon;
use crate::simd::Simd;
use crate::simd::pack::Packer;

/// Panels of a multiple of 4 lanes.
#[derive(Clone, Copy)]
pub(super) struct Pack4(pub Neon);

impl Packer for Pack4 {
    const LANES: usize = 4;
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
