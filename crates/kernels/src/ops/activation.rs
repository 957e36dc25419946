//! SwiGLU's product, sums, scalings and biases: operations on elements.

use super::{check_len, elements};
use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;

/// Rows whose bias gradients are summed together; the sums of such groups are then added in order.
const GRADIENT_ROWS: usize = 64;

impl Cpu {
    /// `y = silu(gate) * up` with `silu(g) = g / (1 + exp(-g))`; all of one length.
    pub fn silu_mul(&self, y: &mut [f32], gate: &[f32], up: &[f32]) {
        let _counting = self.clock.count(Work::Elements);
        check_len("silu_mul: gate", gate, y.len());
        check_len("silu_mul: up", up, y.len());
        let len = y.len();
        let y = Disjoint::new(y);
        self.for_rows(len, 1, &|part| {
            // SAFETY: the ranges of different tasks do not overlap.
            let y = unsafe { y.part(part.clone()) };
            kernel!(self, silu_mul(y, &gate[part.clone()], &up[part]));
        });
    }

    /// Gradients of [`silu_mul`](Self::silu_mul) and once more its result, which is cheaper to compute again than to keep:
    /// `dy` becomes the gradient of `gate`, `dup` and `y` are overwritten; all of one length.
    pub fn silu_mul_backward(
        &self,
        dy: &mut [f32],
        dup: &mut [f32],
        y: &mut [f32],
        gate: &[f32],
        up: &[f32],
    ) {
        let _counting = self.clock.count(Work::Elements);
        let len = dy.len();
        check_len("silu_mul_backward: y", y, len);
        check_len("silu_mul_backward: dup", dup, len);
        check_len("silu_mul_backward: gate", gate, len);
        check_len("silu_mul_backward: up", up, len);
        let (dy, dup, y) = (Disjoint::new(dy), Disjoint::new(dup), Disjoint::new(y));
        self.for_rows(len, 1, &|part| {
            // SAFETY: the ranges of different tasks do not overlap.
            let (dy, dup, y) =
                unsafe { (dy.part(part.clone()), dup.part(part.clone()), y.part(part.clone())) };
            kernel!(self, silu_mul_backward(dy, dup, y, &gate[part.clone()], &up[part]));
        });
    }

    /// `y += x`, both of one length.
    pub fn add(&self, y: &mut [f32], x: &[f32]) {
        let _counting = self.clock.count(Work::Elements);
        check_len("add: x", x, y.len());
        let len = y.len();
        let y = Disjoint::new(y);
        self.for_rows(len, 1, &|part| {
            // SAFETY: the ranges of different tasks do not overlap.
            let y = unsafe { y.part(part.clone()) };
            kernel!(self, add(y, &x[part]));
        });
    }

    /// `x = 0`.
    pub fn clear(&self, x: &mut [f32]) {
        let len = x.len();
        let x = Disjoint::new(x);
        self.for_rows(len, 1, &|part| {
            // SAFETY: the ranges of different tasks do not overlap.
            unsafe { x.part(part) }.fill(0.0);
        });
    }

    /// `x *= s`.
    pub fn scale(&self, x: &mut [f32], s: f32) {
        let len = x.len();
        let x = Disjoint::new(x);
        self.for_rows(len, 1, &|part| {
            // SAFETY: the ranges of different tasks do not overlap.
            let x = unsafe { x.part(part) };
            kernel!(self, scale(x, s));
        });
    }

    /// Adds `bias [D]` to every row of `y [N, D]`.
    ///
    /// # Panics
    /// If `y` is not a whole number of rows.
    pub fn add_bias(&self, y: &mut [f32], bias: &[f32]) {
        let (n, d) = rows_of("add_bias: y", y, bias.len());
        let y = Disjoint::new(y);
        self.for_rows(n, d, &|rows| {
            for row in rows {
                // SAFETY: the rows of different tasks do not overlap.
                let y = unsafe { y.part(elements(&(row..row + 1), d)) };
                kernel!(self, add(y, bias));
            }
        });
    }

    /// Gradient of [`add_bias`](Self::add_bias): adds the sum of the rows of `dy [N, D]` to `dbias [D]`.
    ///
    /// # Panics
    /// If `dy` is not a whole number of rows.
    pub fn bias_backward(&self, dbias: &mut [f32], dy: &[f32]) {
        let (n, d) = rows_of("bias_backward: dy", dy, dbias.len());
        let mut partial = self.buffers.zeros(n.div_ceil(GRADIENT_ROWS) * d);
        let sums = Disjoint::new(&mut partial);
        self.for_ranges(n, GRADIENT_ROWS, &|index, rows| {
            // SAFETY: each task has its own sum.
            let sum = unsafe { sums.part(index * d..(index + 1) * d) };
            for row in rows {
                kernel!(self, add(sum, &dy[row * d..(row + 1) * d]));
            }
        });
        for sum in partial.chunks_exact(d.max(1)) {
            kernel!(self, add(dbias, sum));
        }
    }
}

/// Number of rows of `d` elements and `d`.
fn rows_of(what: &str, slice: &[f32], d: usize) -> (usize, usize) {
    let n = slice.len().checked_div(d).unwrap_or(0);
    check_len(what, slice, n * d);
    (n, d)
}
