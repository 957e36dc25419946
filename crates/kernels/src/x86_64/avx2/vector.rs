//! Vectors of 8 f32.

use super::super::transpose::transpose_8_ptr;
use crate::simd::attention::{Product, multiply_in};
use crate::simd::{Element, Simd};
use half::f16;
use std::arch::x86_64::*;

/// Proof that the CPU has what the set `avx2` needs.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// [`has_avx2`](super::super::has_avx2) is true.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    /// Ones in the first `count` lanes.
    #[inline(always)]
    fn mask(self, count: usize) -> __m256i {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
        }
    }
}

/// Operations that are one intrinsic.
macro_rules! operations {
    ($($name:ident($($x:ident),*) = $intrinsic:ident;)*) => { $(
        #[inline(always)]
        fn $name(self, $($x: Self::F32),*) -> Self::F32 {
            // SAFETY: `self` proves that the CPU has the instruction.
            unsafe { $intrinsic($($x),*) }
        }
    )* };
}

impl Simd for Avx2 {
    type F32 = __m256;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    operations! {
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        max(a, b) = _mm256_max_ps;
        min(a, b) = _mm256_min_ps;
        mul_add(a, b, c) = _mm256_fmadd_ps;
        neg_mul_add(a, b, c) = _mm256_fnmadd_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn scale_by_power(self, x: __m256, n: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn zero_where_less(self, x: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm256_and_ps(x, _mm256_cmp_ps::<_CMP_NLT_UQ>(a, b)) }
    }

    #[inline(always)]
    fn sum(self, x: __m256) -> f32 {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    fn largest(self, x: __m256) -> f32 {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: a prefetch of any address has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_f16_ptr(self, from: *const f16) -> __m256 {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instruction.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_i8_ptr(self, from: *const i8) -> __m256 {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instructions.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_first_ptr(self, from: *const f32, count: usize) -> __m256 {
        // SAFETY: the mask selects the `count` elements that the caller promises.
        unsafe { _mm256_maskload_ps(from, self.mask(count)) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, to: *mut f32, x: __m256) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn store_first_ptr(self, to: *mut f32, count: usize, x: __m256) {
        // SAFETY: the mask selects the `count` elements that the caller promises.
        unsafe { _mm256_maskstore_ps(to, self.mask(count), x) }
    }

    #[inline(always)]
    unsafe fn transpose_ptr(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instructions.
        unsafe { transpose_8_ptr(from, from_stride, to, to_stride) };
    }

    #[inline(always)]
    unsafe fn multiply<B: Element>(self, product: &mut Product<'_, B>) {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instructions.
        unsafe { multiply(product) };
    }
}

/// A product of small matrices, once in the program rather than in every kernel that needs one.
///
/// # Safety
/// All elements that its shape and strides name lie inside its slices.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<B: Element>(product: &mut Product<'_, B>) {
    // SAFETY: compiled for, and so only called on, a CPU with these features; the caller's promise.
    unsafe { multiply_in(Avx2::new(), product) };
}
