//! Sums of squares; AdamW is memory-bound and runs the plain loop, compiled for the instruction set.

use super::Simd;
use super::lanes::dot;

/// Vectors whose squares are summed in f32 before they are added to the sum in f64: the lanes' sums are then off by
/// at most 64 units of 2^-24, relatively.
const VECTORS: usize = 64;

#[inline(always)]
pub(crate) fn sum_squares<S: Simd>(s: S, x: &[f32]) -> f64 {
    let mut sum = 0.0;
    for part in x.chunks(VECTORS * S::LANES) {
        sum += f64::from(dot(s, part, part));
    }
    sum
}
