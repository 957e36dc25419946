//! Products of small matrices that lie in the cache as they are: `C[m, n] (+)= A[m, k] B[k, n]`.

use super::super::{Element, Simd};

/// One product. `A` may be a transposed view, the rows of `B` and `C` are contiguous.
pub(crate) struct Product<'a, B> {
    /// Rows, columns, depth.
    pub shape: (usize, usize, usize),
    pub c: &'a mut [f32],
    pub c_stride: usize,
    /// Add to `C` instead of overwriting it.
    pub accumulate: bool,
    pub a: &'a [f32],
    /// Distance of rows and of columns of `A`.
    pub a_strides: (usize, usize),
    pub b: &'a [B],
    pub b_stride: usize,
    /// Elements behind `B` that few rows ask for while they go through it, where the next product reads; 0: none.
    pub ahead: usize,
}

impl<B: Element> Product<'_, B> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(mut self, s: S) {
        let (m, n, k) = self.shape;
        if m == 0 || n == 0 || k == 0 {
            return;
        }
        let fits = (m - 1) * self.c_stride + n <= self.c.len()
            && (m - 1) * self.a_strides.0 + (k - 1) * self.a_strides.1 < self.a.len()
            && (k - 1) * self.b_stride + n <= self.b.len();
        assert!(fits, "a product of shape {:?} leaves its slices", self.shape);
        // SAFETY: all elements lie inside the slices (just checked).
        unsafe { s.multiply(&mut self) };
    }
}

/// The product, in the function of the instruction set.
///
/// # Safety
/// All elements that the shape and the strides name lie inside the slices.
#[inline(always)]
pub(crate) unsafe fn multiply_in<S: Simd, B: Element>(s: S, p: &mut Product<'_, B>) {
    // SAFETY: the caller's promise.
    unsafe { if S::REGISTERS >= 32 { columns::<S, B, 4>(s, p) } else { columns::<S, B, 2>(s, p) } }
}

/// Goes through the columns by `VECTORS` vectors, then by what is left.
///
/// # Safety
/// As [`multiply_in`].
#[inline(always)]
unsafe fn columns<S: Simd, B: Element, const VECTORS: usize>(s: S, p: &mut Product<'_, B>) {
    let n = p.shape.1;
    let mut j = 0;
    while j < n {
        let left = n - j;
        // SAFETY: the caller's promise; each call stays below column `n`.
        unsafe {
            match (left / S::LANES).min(VECTORS) {
                0 => rows::<S, B, 1>(s, p, j, left),
                1 => rows::<S, B, 1>(s, p, j, S::LANES),
                2 => rows::<S, B, 2>(s, p, j, S::LANES),
                3 => rows::<S, B, 3>(s, p, j, S::LANES),
                _ => rows::<S, B, VECTORS>(s, p, j, S::LANES),
            }
        }
        j += (left / S::LANES).clamp(1, VECTORS) * S::LANES;
    }
}

/// Goes through the rows of the columns from `j` on by 6, then by 2 and 1; the last vector has `last` elements.
///
/// # Safety
/// As [`multiply_in`].
#[inline(always)]
unsafe fn rows<S: Simd, B: Element, const VECTORS: usize>(
    s: S,
    p: &mut Product<'_, B>,
    j: usize,
    last: usize,
) {
    let m = p.shape.0;
    let mut i = 0;
    // SAFETY: the caller's promise; each call stays below row `m`.
    unsafe {
        while i + 6 <= m {
            block::<S, B, 6, VECTORS>(s, p, (i, j), last);
            i += 6;
        }
        while i + 2 <= m {
            block::<S, B, 2, VECTORS>(s, p, (i, j), last);
            i += 2;
        }
        if i < m {
            block::<S, B, 1, VECTORS>(s, p, (i, j), last);
        }
    }
}

/// A block of `C` in registers.
///
/// # Safety
/// As [`multiply_in`].
#[inline(always)]
unsafe fn block<S: Simd, B: Element, const ROWS: usize, const VECTORS: usize>(
    s: S,
    p: &mut Product<'_, B>,
    (i, j): (usize, usize),
    last: usize,
) {
    // SAFETY: the caller's promise: rows below `m`, columns below `n`, depth below `k`.
    unsafe {
        let c = p.c.as_mut_ptr().add(i * p.c_stride + j);
        let mut a = p.a.as_ptr().add(i * p.a_strides.0);
        let mut b = p.b.as_ptr().add(j);
        let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
        if p.accumulate {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = load(s, c.cast_const().add(r * p.c_stride + v * S::LANES), last);
                }
            }
        }
        for _ in 0..p.shape.2 {
            let mut columns = [s.splat(0.0); VECTORS];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = load(s, b.add(v * S::LANES), last);
                if ROWS <= 2 && p.ahead > 0 {
                    s.prefetch(b.wrapping_add(v * S::LANES + p.ahead).cast());
                }
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = s.splat(*a.add(r * p.a_strides.0));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = s.mul_add(factor, column, *sum);
                }
            }
            a = a.add(p.a_strides.1);
            b = b.add(p.b_stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let c = c.add(r * p.c_stride + v * S::LANES);
                if last == S::LANES { s.store_ptr(c, sum) } else { s.store_first_ptr(c, last, sum) }
            }
        }
    }
}

/// # Safety
/// `last <= LANES` elements can be read.
#[inline(always)]
unsafe fn load<S: Simd, B: Element>(s: S, from: *const B, last: usize) -> S::F32 {
    // SAFETY: the caller's promise.
    unsafe { if last == S::LANES { B::load(s, from) } else { B::load_first(s, from, last) } }
}
