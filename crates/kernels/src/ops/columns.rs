//! Factors of whole columns `[N, D]`: the magnitudes of DoRA (arXiv 2402.09353), forward and backward.

use super::{check_len, elements};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;

/// Rows whose sums are made together; the sums of such groups are then added in order.
const SUM_ROWS: usize = 64;

impl Cpu {
    /// Multiplies every row of `x [N, D]` by `factors [D]`.
    pub fn scale_columns(&self, x: &mut [f32], factors: &[f32]) {
        let d = factors.len();
        let n = x.len() / d.max(1);
        check_len("scale_columns: x", x, n * d);
        let x = Disjoint::new(x);
        self.for_rows(n, d, &|rows| {
            // SAFETY: the rows of different tasks do not overlap.
            let x = unsafe { x.part(elements(&rows, d)) };
            for row in x.chunks_exact_mut(d) {
                row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
            }
        });
    }

    /// `sums[j] += sum over rows of a[i, j] * b[i, j]`, both `[N, D]`: the gradient of
    /// [`scale_columns`](Self::scale_columns) to its factors.
    pub fn column_dots(&self, sums: &mut [f32], a: &[f32], b: &[f32]) {
        let d = sums.len();
        let n = a.len() / d.max(1);
        check_len("column_dots: a", a, n * d);
        check_len("column_dots: b", b, n * d);
        let mut partial = self.buffers.zeros(n.div_ceil(SUM_ROWS) * d);
        let parts = Disjoint::new(&mut partial);
        self.for_ranges(n, SUM_ROWS, &|index, rows| {
            let part = elements(&rows, d);
            // SAFETY: the sums of different tasks do not overlap.
            let sums = unsafe { parts.part(index * d..(index + 1) * d) };
            for (a, b) in a[part.clone()].chunks_exact(d).zip(b[part].chunks_exact(d)) {
                sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
            }
        });
        for partial in partial.chunks_exact(d.max(1)) {
            self.add(sums, partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cpu, KernelSet};

    #[test]
    fn columns_are_scaled_and_their_products_summed() {
        let (n, d) = (150, 7);
        let value = |i: usize, k: usize| ((i * 37 + k * 11) % 23) as f32 - 11.0;
        let a: Vec<f32> = (0..n * d).map(|i| value(i, 1)).collect();
        let b: Vec<f32> = (0..n * d).map(|i| value(i, 2)).collect();
        let factors: Vec<f32> = (0..d).map(|j| value(j, 3)).collect();
        for threads in [1, 3] {
            let cpu = Cpu::new(KernelSet::available()[0], threads);
            let mut scaled = a.clone();
            cpu.scale_columns(&mut scaled, &factors);
            assert!((0..n * d).all(|i| scaled[i] == a[i] * factors[i % d]));
            let mut sums: Vec<f32> = (0..d).map(|j| j as f32).collect();
            cpu.column_dots(&mut sums, &a, &b);
            for (j, sum) in sums.iter().enumerate() {
                // Small integers: every order of summation gives the same.
                let expected: f32 = (0..n).map(|i| a[i * d + j] * b[i * d + j]).sum();
                assert_eq!(*sum, j as f32 + expected);
            }
        }
    }
}
