//! Packing panels of bf16 pairs: a word holds two values of one lane, the lower index in the low half.

use super::super::avx512::vector::Avx512;
use super::super::transpose::{transpose_8, transpose_16};
use crate::simd::pack::Packer;
use std::arch::x86_64::*;

/// Proof that the CPU has what the set `avx512-bf16` needs.
#[derive(Clone, Copy)]
pub(crate) struct Bf16(Avx512);

impl Bf16 {
    /// # Safety
    /// [`has_avx512_bf16`](super::super::has_avx512_bf16) is true.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: the caller's promise includes AVX-512.
        Self(unsafe { Avx512::new() })
    }
}

/// Panels of a multiple of 8 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Pairs8(pub Bf16);

/// Panels of a multiple of 16 lanes.
#[derive(Clone, Copy)]
pub(crate) struct Pairs16(pub Bf16);

/// Both values rounded to bf16.
fn pair([low, high]: [f32; 2]) -> u32 {
    u32::from(half::bf16::from_f32(low).to_bits()) | u32::from(half::bf16::from_f32(high).to_bits()) << 16
}

impl Packer for Pairs8 {
    const LANES: usize = 8;
    const K_PER_WORD: usize = 2;

    #[inline(always)]
    unsafe fn square(self, to: *mut u32, width: usize, from: *const f32, lane_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has BF16.
        unsafe {
            let mut rows = [_mm256_setzero_ps(); 8];
            for (lane, row) in rows.iter_mut().enumerate() {
                let values = _mm512_loadu_ps(from.add(lane * lane_stride));
                *row = std::mem::transmute::<__m256bh, __m256>(_mm512_cvtneps_pbh(values));
            }
            for (word, row) in transpose_8(rows).into_iter().enumerate() {
                _mm256_storeu_ps(to.add(word * width).cast(), row);
            }
        }
    }

    #[inline(always)]
    unsafe fn row(self, to: *mut u32, from: *const f32, k_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has BF16.
        unsafe {
            let low = _mm512_castps256_ps512(_mm256_loadu_ps(from));
            let both = _mm512_insertf32x8::<1>(low, _mm256_loadu_ps(from.add(k_stride)));
            let values = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(both));
            let order = _mm256_setr_epi16(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
            _mm256_storeu_si256(to.cast(), _mm256_permutexvar_epi16(order, values));
        }
    }

    #[inline(always)]
    fn word(self, values: [f32; 2]) -> u32 {
        pair(values)
    }
}

impl Packer for Pairs16 {
    const LANES: usize = 16;
    const K_PER_WORD: usize = 2;

    #[inline(always)]
    unsafe fn square(self, to: *mut u32, width: usize, from: *const f32, lane_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has BF16.
        unsafe {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (lane, row) in rows.iter_mut().enumerate() {
                let from = from.add(lane * lane_stride);
                let values = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
                *row = std::mem::transmute::<__m512bh, __m512>(values);
            }
            for (word, row) in transpose_16(rows).into_iter().enumerate() {
                _mm512_storeu_ps(to.add(word * width).cast(), row);
            }
        }
    }

    #[inline(always)]
    unsafe fn row(self, to: *mut u32, from: *const f32, k_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has BF16.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(k_stride)));
            let values = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            // Word `i`: the value `i` of the low row, then that of the high row (16 further).
            let words = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let order = _mm512_or_si512(
                words,
                _mm512_slli_epi32::<16>(_mm512_add_epi32(words, _mm512_set1_epi32(16))),
            );
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, values));
        }
    }

    #[inline(always)]
    fn word(self, values: [f32; 2]) -> u32 {
        pair(values)
    }
}
