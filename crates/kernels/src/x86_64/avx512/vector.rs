//! Vectors of 16 f32.

use super::super::transpose::transpose_16_ptr;
use crate::simd::attention::{Product, multiply_in};
use crate::simd::{Element, Simd};
use half::f16;
use std::arch::x86_64::*;

/// Proof that the CPU has what the set `avx512` needs.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// [`has_avx512`](super::super::has_avx512) is true.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
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

impl Simd for Avx512 {
    type F32 = __m512;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    operations! {
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        max(a, b) = _mm512_max_ps;
        min(a, b) = _mm512_min_ps;
        mul_add(a, b, c) = _mm512_fmadd_ps;
        neg_mul_add(a, b, c) = _mm512_fnmadd_ps;
        scale_by_power(x, n) = _mm512_scalef_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn zero_where_less(self, x: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b), x) }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm512_reduce_add_ps(x) }
    }

    #[inline(always)]
    fn largest(self, x: __m512) -> f32 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm512_reduce_max_ps(x) }
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: a prefetch of any address has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_f16_ptr(self, from: *const f16) -> __m512 {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instruction.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_i8_ptr(self, from: *const i8) -> __m512 {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_first_ptr(self, from: *const f32, count: usize) -> __m512 {
        // SAFETY: the mask selects the `count` elements that the caller promises.
        unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, from) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, to: *mut f32, x: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn store_first_ptr(self, to: *mut f32, count: usize, x: __m512) {
        // SAFETY: the mask selects the `count` elements that the caller promises.
        unsafe { _mm512_mask_storeu_ps(to, (1 << count) - 1, x) }
    }

    #[inline(always)]
    unsafe fn transpose_ptr(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instructions.
        unsafe { transpose_16_ptr(from, from_stride, to, to_stride) };
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn multiply<B: Element>(product: &mut Product<'_, B>) {
    // SAFETY: compiled for, and so only called on, a CPU with these features; the caller's promise.
    unsafe { multiply_in(Avx512::new(), product) };
}
