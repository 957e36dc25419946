//! Float kernels written once over a vector type; each instruction set instantiates them in its own functions.
//!
//! A [`Simd`] value is the proof that the CPU has the instructions: it can only be made where they were detected, and
//! every operation needs it. Generic functions are `#[inline(always)]`, so that they become part of the function of
//! the instruction set that calls them, compiled with its features. They hold no closures in their loops, because a
//! closure would be compiled without the features if it were not inlined.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod exp;
pub(crate) mod gemm;
#[cfg(target_arch = "x86_64")]
pub(crate) mod int16;
mod lanes;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod optimizer;
pub(crate) mod pack;
pub(crate) mod table;

use half::f16;

/// Vectors of f32 and the operations on them.
pub(crate) trait Simd: Copy {
    /// A vector.
    type F32: Copy;
    /// Elements of a vector.
    const LANES: usize;
    /// Vectors the CPU holds in registers.
    const REGISTERS: usize;

    fn splat(self, x: f32) -> Self::F32;
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `c - a * b`, rounded once.
    fn neg_mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// To the nearest integer, ties to even.
    fn round(self, x: Self::F32) -> Self::F32;
    /// `x * 2^n` for integers `n` in -126..=127.
    fn scale_by_power(self, x: Self::F32, n: Self::F32) -> Self::F32;
    /// 0 where `a < b`, `x` elsewhere (also where either is NaN).
    fn zero_where_less(self, x: Self::F32, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The sum of the lanes, always in the same order.
    fn sum(self, x: Self::F32) -> f32;
    /// The largest lane.
    fn largest(self, x: Self::F32) -> f32;

    /// A hint that the cache line at an address, valid or not, is about to be used.
    fn prefetch(self, at: *const f32);

    /// # Safety
    /// `LANES` elements can be read from `from`.
    unsafe fn load_ptr(self, from: *const f32) -> Self::F32;
    /// `LANES` halves as f32.
    ///
    /// # Safety
    /// As many can be read from `from`.
    unsafe fn load_f16_ptr(self, from: *const f16) -> Self::F32;
    /// `LANES` integers as f32.
    ///
    /// # Safety
    /// As many can be read from `from`.
    unsafe fn load_i8_ptr(self, from: *const i8) -> Self::F32;
    /// The first `count < LANES` elements, then zeros.
    ///
    /// # Safety
    /// `count` elements can be read from `from`.
    unsafe fn load_first_ptr(self, from: *const f32, count: usize) -> Self::F32;
    /// # Safety
    /// `LANES` elements can be written to `to`.
    unsafe fn store_ptr(self, to: *mut f32, x: Self::F32);
    /// # Safety
    /// `count < LANES` elements can be written to `to`.
    unsafe fn store_first_ptr(self, to: *mut f32, count: usize, x: Self::F32);

    /// Transposes a square: row `i`, element `j` becomes row `j`, element `i`.
    ///
    /// # Safety
    /// `LANES` rows of `LANES` elements can be read from `from` and written to `to`, the rows as far apart as the
    /// strides say.
    unsafe fn transpose_ptr(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// A product of small matrices.
    ///
    /// # Safety
    /// All elements that its shape and strides name lie inside its slices.
    unsafe fn multiply<B: Element>(self, product: &mut attention::Product<'_, B>);
}

/// Numbers that load as f32.
pub(crate) trait Element: Copy + Default {
    /// # Safety
    /// `LANES` elements can be read from `from`.
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F32;

    /// The first `count < LANES` elements, then zeros.
    ///
    /// # Safety
    /// `count` elements can be read from `from`.
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, from: *const Self, count: usize) -> S::F32 {
        const { assert!(S::LANES <= 16) };
        let mut elements = [Self::default(); 16];
        // SAFETY: `count < LANES` elements can be read (the caller's promise) and there is room for 16.
        unsafe {
            std::ptr::copy_nonoverlapping(from, elements.as_mut_ptr(), count);
            Self::load(s, elements.as_ptr())
        }
    }
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe { s.load_ptr(from) }
    }

    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, from: *const Self, count: usize) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe { s.load_first_ptr(from, count) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16_ptr(from) }
    }
}

impl Element for i8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe { s.load_i8_ptr(from) }
    }
}
