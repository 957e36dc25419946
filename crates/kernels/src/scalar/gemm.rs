//! Matrix product: `C[i, j] (+)= sum_k A[i, k] B[k, j]`, k ascending, in f32.
//!
//! In bf16 precision both factors are rounded to bf16 first; their product is exact in f32 and only sums round.

use crate::matrix::{MatRef, Precision};
use std::ops::Range;

/// Rows `rows` of the product; `c` starts at the first of them and its rows are `c_stride` apart.
pub(super) fn gemm(
    precision: Precision,
    accumulate: bool,
    c: &mut [f32],
    c_stride: usize,
    a: MatRef<'_>,
    b: MatRef<'_>,
    rows: Range<usize>,
) {
    let mut sums = vec![0.0; b.cols];
    for (i, c) in rows.zip(c.chunks_mut(c_stride.max(1))) {
        sums.fill(0.0);
        for k in 0..a.cols {
            let factor = rounded(precision, a.data[i * a.row_stride + k * a.col_stride]);
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum += factor * rounded(precision, b.data[k * b.row_stride + j * b.col_stride]);
            }
        }
        for (c, sum) in c.iter_mut().zip(&sums) {
            *c = if accumulate { *c + sum } else { *sum };
        }
    }
}

/// `value` as `precision` sees it.
fn rounded(precision: Precision, value: f32) -> f32 {
    match precision {
        Precision::F32 => value,
        Precision::Bf16 => half::bf16::from_f32(value).to_f32(),
    }
}
