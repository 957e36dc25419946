//! Packing f32 panels with vectors of 16 lanes.

use super::super::transpose::transpose_16;
use super::vector::Avx512;
use crate::simd::pack::Packer;
use std::arch::x86_64::*;

/// Panels of a multiple of 16 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Pack16(pub Avx512);

impl Packer for Pack16 {
    const LANES: usize = 16;
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn square(self, to: *mut u32, width: usize, from: *const f32, lane_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has AVX-512.
        unsafe {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (lane, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(lane * lane_stride));
            }
            for (word, row) in transpose_16(rows).into_iter().enumerate() {
                _mm512_storeu_ps(to.add(word * width).cast(), row);
            }
        }
    }

    #[inline(always)]
    unsafe fn row(self, to: *mut u32, from: *const f32, _k_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has AVX-512.
        unsafe { _mm512_storeu_ps(to.cast(), _mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    fn word(self, [value, _]: [f32; 2]) -> u32 {
        value.to_bits()
    }
}
