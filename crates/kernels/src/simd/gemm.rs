//! The inner loop of f32 matrix products: a block of rows times up to three vectors of columns, kept in registers.
//!
//! It broadcasts the factors of the rows; NEON, which multiplies by an element of a vector, has a loop of its own.

use super::Simd;
use crate::ops::gemm::Tile;

/// Steps of K between two looks at how many are left.
#[cfg(not(target_arch = "aarch64"))]
const UNROLLED: usize = 4;

/// `C (+)= A B` for one panel of `A` (`[K][ROWS]`) and one of `B` (`[K][columns]`, at most `VECTORS <= 3` vectors), K
/// ascending for every element.
///
/// # Safety
/// As [`crate::ops::gemm::TileFn`].
#[cfg(not(target_arch = "aarch64"))]
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    a: *const f32,
    b: *const f32,
    tile: &Tile,
) {
    // SAFETY: the caller's promise; the width of the panel is that of the columns rounded up to vectors.
    unsafe {
        match tile.cols.div_ceil(S::LANES) {
            1 => block::<S, ROWS, 1>(s, a, b, tile),
            2 if VECTORS > 2 => block::<S, ROWS, 2>(s, a, b, tile),
            _ => block::<S, ROWS, VECTORS>(s, a, b, tile),
        }
    }
}

/// # Safety
/// As [`tile`], with panels of `B` of `VECTORS` vectors.
#[cfg(not(target_arch = "aarch64"))]
#[inline(always)]
unsafe fn block<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    mut a: *const f32,
    mut b: *const f32,
    tile: &Tile,
) {
    prefetch::<S, ROWS, VECTORS>(s, tile);
    let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
    // Steps of four, because what counts steps takes the place of products.
    for _ in 0..tile.words / UNROLLED {
        for _ in 0..UNROLLED {
            // SAFETY: the panels hold `tile.words` steps of `ROWS` and `VECTORS * LANES` elements.
            unsafe { step(s, &mut sums, a, b) };
            (a, b) = (a.wrapping_add(ROWS), b.wrapping_add(VECTORS * S::LANES));
        }
    }
    for _ in 0..tile.words % UNROLLED {
        // SAFETY: as above.
        unsafe { step(s, &mut sums, a, b) };
        (a, b) = (a.wrapping_add(ROWS), b.wrapping_add(VECTORS * S::LANES));
    }
    // SAFETY: the caller's promise about `C`.
    unsafe { store(s, sums, tile) };
}

/// One step of K.
///
/// # Safety
/// `ROWS` elements can be read from `a`, `VECTORS * LANES` from `b`.
#[cfg(not(target_arch = "aarch64"))]
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    a: *const f32,
    b: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [s.splat(0.0); VECTORS];
        for (v, column) in columns.iter_mut().enumerate() {
            *column = s.load_ptr(b.add(v * S::LANES));
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let factor = s.splat(*a.add(r));
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum = s.mul_add(factor, column, *sum);
            }
        }
    }
}

/// Brings the rows of `C` closer while the panels are multiplied.
#[inline(always)]
pub(crate) fn prefetch<S: Simd, const ROWS: usize, const VECTORS: usize>(s: S, tile: &Tile) {
    for r in 0..ROWS.min(tile.rows) {
        for v in 0..VECTORS {
            s.prefetch(tile.c.wrapping_add(r * tile.c_stride + v * S::LANES));
        }
    }
}

/// Writes or adds the part of `sums` that lies inside `C`.
///
/// # Safety
/// The `tile.rows` x `tile.cols` elements of `C` can be read and written.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    sums: [[S::F32; VECTORS]; ROWS],
    tile: &Tile,
) {
    if tile.rows == ROWS && tile.cols == VECTORS * S::LANES {
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: the whole block lies inside `C`.
                unsafe {
                    let c = tile.c.add(r * tile.c_stride + v * S::LANES);
                    let sum = if tile.accumulate { s.add(s.load_ptr(c), sum) } else { sum };
                    s.store_ptr(c, sum);
                }
            }
        }
        return;
    }
    // A copy, so that the sums of the common case above stay in registers.
    let edge = sums;
    for (r, sums) in edge.iter().take(tile.rows).enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: row `r` and the columns below `tile.cols` lie inside `C`.
            unsafe {
                let c = tile.c.add(r * tile.c_stride + v * S::LANES);
                let left = tile.cols - v * S::LANES;
                if left >= S::LANES {
                    let sum = if tile.accumulate { s.add(s.load_ptr(c), sum) } else { sum };
                    s.store_ptr(c, sum);
                } else {
                    let sum = if tile.accumulate { s.add(s.load_first_ptr(c, left), sum) } else { sum };
                    s.store_first_ptr(c, left, sum);
                }
            }
        }
    }
}
