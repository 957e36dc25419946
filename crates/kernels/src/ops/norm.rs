//! RMSNorm and LayerNorm over rows, forward and backward.

use super::{check_len, elements};
use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;

/// Rows whose weight gradients are summed together; the sums of such groups are then added in order.
const GRADIENT_ROWS: usize = 64;

/// What LayerNorm writes.
#[derive(Debug)]
pub struct LayerNormOutput<'a> {
    /// `[N, D]`, the normalized rows.
    pub y: &'a mut [f32],
    /// `[N]`, the mean of each row, kept for the backward pass.
    pub mean: &'a mut [f32],
    /// `[N]`, `1 / sqrt(variance + eps)` of each row, kept for the backward pass.
    pub rstd: &'a mut [f32],
}

/// The gradients LayerNorm adds to.
#[derive(Debug)]
pub struct LayerNormGrads<'a> {
    /// `[N, D]`.
    pub dx: &'a mut [f32],
    /// `[D]`.
    pub dweight: &'a mut [f32],
    /// `[D]`.
    pub dbias: &'a mut [f32],
}

impl Cpu {
    /// `rstd = 1 / sqrt(mean(x^2) + eps)` and `y = x * rstd * weight` for every row.
    ///
    /// # Shapes
    /// `y [N, D]`, `rstd [N]` (kept for the backward pass), `x [N, D]`, `weight [D]`.
    pub fn rms_norm(&self, y: &mut [f32], rstd: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
        let _counting = self.clock.count(Work::Elements);
        let (n, d) = (rstd.len(), weight.len());
        check_len("rms_norm: y", y, n * d);
        check_len("rms_norm: x", x, n * d);
        let (y, rstd) = (Disjoint::new(y), Disjoint::new(rstd));
        self.for_rows(n, d, &|rows| {
            let part = elements(&rows, d);
            // SAFETY: the rows of different tasks do not overlap.
            let (y, rstd) = unsafe { (y.part(part.clone()), rstd.part(rows)) };
            kernel!(self, rms_norm(y, rstd, &x[part], weight, eps));
        });
    }

    /// Gradients of [`rms_norm`](Self::rms_norm), added to `dx` and `dweight`.
    ///
    /// # Shapes
    /// `dx [N, D]`, `dweight [D]`, `dy [N, D]`, `x [N, D]`, `weight [D]`, `rstd [N]` as the forward pass wrote it.
    pub fn rms_norm_backward(
        &self,
        dx: &mut [f32],
        dweight: &mut [f32],
        dy: &[f32],
        x: &[f32],
        weight: &[f32],
        rstd: &[f32],
    ) {
        let _counting = self.clock.count(Work::Elements);
        let (n, d) = (rstd.len(), weight.len());
        check_len("rms_norm_backward: dx", dx, n * d);
        check_len("rms_norm_backward: dweight", dweight, d);
        check_len("rms_norm_backward: dy", dy, n * d);
        check_len("rms_norm_backward: x", x, n * d);
        let mut partial = self.buffers.zeros(n.div_ceil(GRADIENT_ROWS) * d);
        let (dx, sums) = (Disjoint::new(dx), Disjoint::new(&mut partial));
        self.for_ranges(n, GRADIENT_ROWS, &|index, rows| {
            let part = elements(&rows, d);
            // SAFETY: the rows of different tasks, and their sums, do not overlap.
            let (dx, sum) = unsafe { (dx.part(part.clone()), sums.part(index * d..(index + 1) * d)) };
            kernel!(self, rms_norm_backward(dx, sum, &dy[part.clone()], &x[part], weight, &rstd[rows]));
        });
        for sum in partial.chunks_exact(d.max(1)) {
            kernel!(self, add(dweight, sum));
        }
    }

    /// `y = (x - mean) * rstd * weight + bias` with `rstd = 1 / sqrt(variance + eps)` for every row; the variance is
    /// the biased one (divided by D).
    ///
    /// # Shapes
    /// `out` as its fields say, `x [N, D]`, `weight [D]`, `bias [D]`.
    pub fn layer_norm(&self, out: LayerNormOutput<'_>, x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
        let _counting = self.clock.count(Work::Elements);
        let (n, d) = (out.rstd.len(), weight.len());
        check_len("layer_norm: y", out.y, n * d);
        check_len("layer_norm: mean", out.mean, n);
        check_len("layer_norm: x", x, n * d);
        check_len("layer_norm: bias", bias, d);
        let (y, mean, rstd) = (Disjoint::new(out.y), Disjoint::new(out.mean), Disjoint::new(out.rstd));
        self.for_rows(n, d, &|rows| {
            let part = elements(&rows, d);
            // SAFETY: the rows of different tasks do not overlap.
            let (y, stats) = unsafe { (y.part(part.clone()), [mean.part(rows.clone()), rstd.part(rows)]) };
            kernel!(self, layer_norm(y, stats, &x[part], [weight, bias], eps));
        });
    }

    /// Gradients of [`layer_norm`](Self::layer_norm), added to those in `grads`.
    ///
    /// # Shapes
    /// `grads` as its fields say, `dy [N, D]`, `x [N, D]`, `weight [D]`, `mean [N]` and `rstd [N]` as the forward
    /// pass wrote them.
    pub fn layer_norm_backward(
        &self,
        grads: LayerNormGrads<'_>,
        dy: &[f32],
        x: &[f32],
        weight: &[f32],
        mean: &[f32],
        rstd: &[f32],
    ) {
        let _counting = self.clock.count(Work::Elements);
        let (n, d) = (rstd.len(), weight.len());
        check_len("layer_norm_backward: dx", grads.dx, n * d);
        check_len("layer_norm_backward: dweight", grads.dweight, d);
        check_len("layer_norm_backward: dbias", grads.dbias, d);
        check_len("layer_norm_backward: dy", dy, n * d);
        check_len("layer_norm_backward: x", x, n * d);
        check_len("layer_norm_backward: mean", mean, n);
        let mut partial = self.buffers.zeros(n.div_ceil(GRADIENT_ROWS) * 2 * d);
        let (dx, sums) = (Disjoint::new(grads.dx), Disjoint::new(&mut partial));
        self.for_ranges(n, GRADIENT_ROWS, &|index, rows| {
            let part = elements(&rows, d);
            // SAFETY: the rows of different tasks, and their sums, do not overlap.
            let (dx, sum) = unsafe { (dx.part(part.clone()), sums.part(index * 2 * d..(index + 1) * 2 * d)) };
            let (dweight, dbias) = sum.split_at_mut(d);
            let (dy, x, stats) = (&dy[part.clone()], &x[part], [&mean[rows.clone()], &rstd[rows]]);
            kernel!(self, layer_norm_backward(dx, [dweight, dbias], dy, x, weight, stats));
        });
        for sum in partial.chunks_exact(2 * d.max(1)) {
            kernel!(self, add(grads.dweight, &sum[..d]));
            kernel!(self, add(grads.dbias, &sum[d..]));
        }
    }
}
