//! Matrix product: `C[i, j] (+)= sum_k A[i, k] B[k, j]`, k ascending, in f32.
//!
//! In bf16 precision both factors are rounded to bf16 first; their product is exact in f32 and only sums round. With 16-bit
//! integers ([`int16`](crate::ops::gemm::int16)) the sums of 128 products are exact and only sums of groups round.

use crate::matrix::{MatRef, Precision};
use crate::ops::gemm::int16::{GROUP, GroupScale};
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
        match precision {
            Precision::F32 => add_products(&mut sums, a, b, i, |value| value),
            Precision::Bf16 => add_products(&mut sums, a, b, i, |value| half::bf16::from_f32(value).to_f32()),
            Precision::Int16 => add_integer_products(&mut sums, a, b, i),
        }
        for (c, sum) in c.iter_mut().zip(&sums) {
            *c = if accumulate { *c + sum } else { *sum };
        }
    }
}

/// Adds row `i` of the product to `sums [N]`, with each factor as `rounded` makes it.
fn add_products(sums: &mut [f32], a: MatRef<'_>, b: MatRef<'_>, i: usize, rounded: impl Fn(f32) -> f32) {
    for k in 0..a.cols {
        let factor = rounded(a.data[i * a.row_stride + k * a.col_stride]);
        for (j, sum) in sums.iter_mut().enumerate() {
            *sum += factor * rounded(b.data[k * b.row_stride + j * b.col_stride]);
        }
    }
}

/// Adds row `i` of the product of integers, group by group of K.
fn add_integer_products(sums: &mut [f32], a: MatRef<'_>, b: MatRef<'_>, i: usize) {
    for first in (0..a.cols).step_by(GROUP) {
        let len = GROUP.min(a.cols - first);
        let row = integers((0..len).map(|k| a.data[i * a.row_stride + (first + k) * a.col_stride]));
        for (j, sum) in sums.iter_mut().enumerate() {
            let column = integers((0..len).map(|k| b.data[(first + k) * b.row_stride + j * b.col_stride]));
            let products: i32 = row.0.iter().zip(&column.0).map(|(a, b)| a * b).sum();
            *sum = (products as f32).mul_add(row.1 * column.1, *sum);
        }
    }
}

/// The integers and the scale of one group.
fn integers(values: impl Iterator<Item = f32> + Clone) -> ([i32; GROUP], f32) {
    let largest = values.clone().map(|value| value.to_bits() & 0x7fff_ffff).max();
    let group = GroupScale::new(largest.unwrap_or(0));
    let mut integers = [0; GROUP];
    for (integer, value) in integers.iter_mut().zip(values) {
        *integer = (value * group.inverse).round_ties_even() as i32;
    }
    (integers, group.scale)
}
