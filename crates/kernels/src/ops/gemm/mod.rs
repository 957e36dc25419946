//! `C[M, N] (+)= A[M, K] B[K, N]` over strided f32 views, for training.

pub(crate) mod int16;
mod packed;
mod scratch;

pub(crate) use packed::{PackSource, PackedGemm, Tile, no_state};

use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::{Gemm, GemmRows};
use crate::matrix::{MatMut, MatRef, Precision};

impl Cpu {
    /// `c = a b`, or `c += a b` if `accumulate`.
    ///
    /// The inputs are rounded as `precision` says, whatever the kernel set. Every element of `c` is summed in an order that
    /// depends on `K` alone.
    ///
    /// # Shapes
    /// `c [M, N]`, `a [M, K]`, `b [K, N]`, any of them a view with strides; for `y = x w^T` pass `w.t()`.
    ///
    /// # Panics
    /// If the shapes do not fit together or a view leaves its data.
    pub fn gemm(&self, precision: Precision, accumulate: bool, c: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>) {
        let fit = c.rows == a.rows && c.cols == b.cols && a.cols == b.rows;
        let shapes = [(c.rows, c.cols), (a.rows, a.cols), (b.rows, b.cols)];
        assert!(fit, "gemm: shapes of c, a, b do not fit: {shapes:?}");
        c.check("gemm: c");
        a.check("gemm: a");
        b.check("gemm: b");
        if c.rows == 0 || c.cols == 0 {
            return;
        }
        // The distance of rows means nothing where there is one.
        let c = if c.rows == 1 { MatMut::new(c.data, 1, c.cols) } else { c };
        if a.cols == 0 {
            if !accumulate {
                c.data.chunks_mut(c.row_stride).take(c.rows).for_each(|row| row[..c.cols].fill(0.0));
            }
            return;
        }
        match (self.kernels.floats.gemm, precision) {
            (Gemm::Rows(kernel), _) => self.gemm_by_rows(kernel, precision, accumulate, (c, a, b)),
            (Gemm::Packed { f32, .. }, Precision::F32) => packed::run(self, f32, accumulate, c, a, b),
            (Gemm::Packed { bf16, .. }, Precision::Bf16) => packed::run(self, bf16, accumulate, c, a, b),
            (Gemm::Packed { int16, .. }, Precision::Int16) => packed::run(self, int16, accumulate, c, a, b),
        }
    }

    fn gemm_by_rows(
        &self,
        kernel: GemmRows,
        precision: Precision,
        accumulate: bool,
        (c, a, b): (MatMut<'_>, MatRef<'_>, MatRef<'_>),
    ) {
        let (rows, cols, stride) = (c.rows, c.cols, c.row_stride);
        let parts = Disjoint::new(c.data);
        self.for_rows(rows, cols.max(a.cols), &|range| {
            let span = range.start * stride..(range.end - 1) * stride + cols;
            // SAFETY: rows do not overlap (checked), and each row belongs to one task.
            let c = unsafe { parts.part(span) };
            // SAFETY: a `KernelSet` can only be obtained after the CPU was found to have its instructions.
            unsafe { kernel(precision, accumulate, c, stride, a, b, range) };
        });
    }
}
