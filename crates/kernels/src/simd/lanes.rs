//! Walking over slices a vector at a time, the last vector perhaps not full.

use super::Simd;

/// How many elements the current step takes: a type, so that the common case has no mask.
pub(super) trait Lanes: Copy {
    /// Elements `i..` of the slice; zeros where the step has none.
    fn load<S: Simd>(self, s: S, from: &[f32], i: usize) -> S::F32;
    /// Writes the step's elements to `i..` of the slice.
    fn store<S: Simd>(self, s: S, to: &mut [f32], i: usize, x: S::F32);
}

/// A whole vector.
#[derive(Clone, Copy)]
pub(super) struct Full;

/// The first elements of a vector, fewer than it has.
#[derive(Clone, Copy)]
pub(super) struct First(pub usize);

impl Lanes for Full {
    #[inline(always)]
    fn load<S: Simd>(self, s: S, from: &[f32], i: usize) -> S::F32 {
        let from = &from[i..i + S::LANES];
        // SAFETY: the slice has that many elements.
        unsafe { s.load_ptr(from.as_ptr()) }
    }

    #[inline(always)]
    fn store<S: Simd>(self, s: S, to: &mut [f32], i: usize, x: S::F32) {
        let to = &mut to[i..i + S::LANES];
        // SAFETY: the slice has that many elements.
        unsafe { s.store_ptr(to.as_mut_ptr(), x) };
    }
}

impl Lanes for First {
    #[inline(always)]
    fn load<S: Simd>(self, s: S, from: &[f32], i: usize) -> S::F32 {
        let from = &from[i..i + self.0];
        // SAFETY: the slice has that many elements.
        unsafe { s.load_first_ptr(from.as_ptr(), self.0) }
    }

    #[inline(always)]
    fn store<S: Simd>(self, s: S, to: &mut [f32], i: usize, x: S::F32) {
        let to = &mut to[i..i + self.0];
        // SAFETY: the slice has that many elements.
        unsafe { s.store_first_ptr(to.as_mut_ptr(), self.0, x) };
    }
}

/// Runs a body for `i = 0, LANES, 2 LANES, ...` below a length, with `lanes` as [`Full`], then once with [`First`] if
/// elements are left.
macro_rules! for_lanes {
    ($simd:ty, $len:expr, |$i:ident, $lanes:ident| $body:block) => {{
        let len = $len;
        let mut $i = 0;
        while $i + <$simd>::LANES <= len {
            let $lanes = $crate::simd::lanes::Full;
            $body
            $i += <$simd>::LANES;
        }
        if $i < len {
            let $lanes = $crate::simd::lanes::First(len - $i);
            $body
        }
    }};
}
pub(super) use for_lanes;

/// `sum_i a[i] b[i]`.
#[inline(always)]
pub(super) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for_lanes!(S, a.len(), |i, lanes| {
        sum = s.mul_add(lanes.load(s, a, i), lanes.load(s, b, i), sum);
    });
    s.sum(sum)
}
