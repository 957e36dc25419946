//! `C[M, N] (+)= A[M, K] B[K, N]` over strided f32 views, for training.

pub(crate) mod int16;
mod kernel;
mod packed;
mod scratch;

pub(crate) use kernel::{Ahead, LINE_WORDS, PackSource, PackedGemm, Tile, no_state};
use packed::{Product, Target};

use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::{Gemm, GemmRows};
use crate::matrix::{MatMut, MatRef, Precision};

/// Products that may share a matrix.
const MOST_PARTS: usize = 4;

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
        self.gemm_parts(precision, accumulate, &mut [c], &[a], &[b]);
    }

    /// `c = a b` for several `b`, with the bits of one product after the other: `a` is prepared once.
    ///
    /// # Panics
    /// As [`gemm`](Self::gemm).
    pub fn gemm_same_a(&self, precision: Precision, c: &mut [MatMut<'_>], a: MatRef<'_>, b: &[MatRef<'_>]) {
        self.gemm_parts(precision, false, c, &[a], b);
    }

    /// `c += a b` for several `a`, with the bits of one product after the other: `b` is prepared once.
    ///
    /// # Panics
    /// As [`gemm`](Self::gemm).
    pub fn gemm_same_b(&self, precision: Precision, c: &mut [MatMut<'_>], a: &[MatRef<'_>], b: MatRef<'_>) {
        self.gemm_parts(precision, true, c, a, &[b]);
    }

    /// `c = a[0] b[0] + a[1] b[1] + ...`, with the bits of one product after the other.
    ///
    /// # Panics
    /// As [`gemm`](Self::gemm).
    pub fn gemm_sum(&self, precision: Precision, c: MatMut<'_>, a: &[MatRef<'_>], b: &[MatRef<'_>]) {
        self.gemm_parts(precision, false, &mut [c], a, b);
    }

    /// Products of which each has its own `a`, `b` and `c`, or shares the only one in the list.
    fn gemm_parts(
        &self,
        precision: Precision,
        accumulate: bool,
        c: &mut [MatMut<'_>],
        a: &[MatRef<'_>],
        b: &[MatRef<'_>],
    ) {
        let _counting = self.clock.count(Work::Products);
        let parts = a.len().max(b.len());
        let number = |len: usize, part: usize| if len == 1 { 0 } else { part };
        let fit =
            parts <= MOST_PARTS && [a.len(), b.len(), c.len()].iter().all(|len| *len == 1 || *len == parts);
        assert!(fit, "gemm: {} results of {} and {} matrices", c.len(), a.len(), b.len());
        for part in 0..parts {
            let (c, a, b) =
                (&mut c[number(c.len(), part)], &a[number(a.len(), part)], &b[number(b.len(), part)]);
            let fit = c.rows == a.rows && c.cols == b.cols && a.cols == b.rows;
            let shapes = [(c.rows, c.cols), (a.rows, a.cols), (b.rows, b.cols)];
            assert!(fit, "gemm: shapes of c, a, b do not fit: {shapes:?}");
            c.check("gemm: c");
            a.check("gemm: a");
            b.check("gemm: b");
        }
        let is_empty = c.iter().any(|c| c.rows == 0 || c.cols == 0) || a.iter().any(|a| a.cols == 0);
        let packed = match (self.kernels.floats.gemm, precision) {
            (Gemm::Packed { f32, .. }, Precision::F32) => Some(f32),
            (Gemm::Packed { bf16, .. }, Precision::Bf16) => Some(bf16),
            (Gemm::Packed { int16, .. }, Precision::Int16) => Some(int16),
            (Gemm::Rows(_), _) => None,
        };
        if let Some(gemm) = packed.filter(|_| !is_empty) {
            let mut targets: [Target<'_>; MOST_PARTS] =
                std::array::from_fn(|_| Target::new(MatMut::new(&mut [], 0, 0)));
            let count = c.len();
            targets.iter_mut().zip(c).for_each(|(target, c)| *target = Target::new(c.part()));
            return Product { gemm, accumulate, a, b, c: &targets[..count] }.run(self);
        }
        let sums = c.len() == 1;
        for part in 0..parts {
            let (c, a, b) =
                (&mut c[number(c.len(), part)], a[number(a.len(), part)], b[number(b.len(), part)]);
            self.one_gemm(precision, accumulate || sums && part > 0, c.part(), a, b);
        }
    }

    /// One product, empty or by rows.
    fn one_gemm(&self, precision: Precision, accumulate: bool, c: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>) {
        if c.rows == 0 || c.cols == 0 {
            return;
        }
        if a.cols == 0 {
            if !accumulate {
                c.data.chunks_mut(c.row_stride).take(c.rows).for_each(|row| row[..c.cols].fill(0.0));
            }
            return;
        }
        match (self.kernels.floats.gemm, precision) {
            (Gemm::Rows(kernel), _) => self.gemm_by_rows(kernel, precision, accumulate, (c, a, b)),
            (Gemm::Packed { f32, bf16, int16 }, precision) => {
                let gemm = match precision {
                    Precision::F32 => f32,
                    Precision::Bf16 => bf16,
                    Precision::Int16 => int16,
                };
                Product { gemm, accumulate, a: &[a], b: &[b], c: &[Target::new(c)] }.run(self);
            }
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
