//! What an adapter adds to a linear layer, forward and backward: `y = g (x W^T + s drop(x) A^T B^T)`, with the gains `g`
//! of DoRA or without any.
//!
//! `A [r, in]`, `B [out, r]`, `s` the scale of the adapter. The gains are `m / norm`, a factor for each output; `norm` is a
//! constant of the pass (arXiv 2402.09353, section 4.3).

use shakti_kernels::{Buffer, MatMut, MatRef};

use crate::adapter::LowRank;
use crate::layers::Compute;
use crate::params::Parameters;

impl LowRank<'_> {
    /// Turns `y = x W^T` into the output of the adapted layer, without bias.
    pub(super) fn forward(&self, compute: Compute<'_>, y: &mut [f32], x: &[f32]) {
        self.add_product(compute, y, x);
        if let Some(factors) = self.factors(compute) {
            compute.cpu.scale_columns(y, &factors);
        }
    }

    /// The gradient of what is inside the brackets, where that is not `dy`.
    pub(super) fn scaled(&self, compute: Compute<'_>, dy: &[f32]) -> Option<Buffer> {
        let factors = self.factors(compute)?;
        let mut scaled = compute.cpu.buffers.copy(dy);
        compute.cpu.scale_columns(&mut scaled, &factors);
        Some(scaled)
    }

    /// Adds what flows to the input through the adapter to `dx [N, in]`; `dy` is as [`LowRank::scaled`] makes it.
    pub(super) fn backward_input(&self, compute: Compute<'_>, dx: &mut [f32], dy: &[f32], rows: usize) {
        let (cpu, in_features) = (compute.cpu, dx.len() / rows);
        let dprojected = self.project_back(compute, dy, rows);
        let (a, b) = (MatRef::new(&dprojected, rows, self.rank), MatRef::new(self.a, self.rank, in_features));
        let Some((probability, seed)) = self.dropout else {
            return cpu.gemm(compute.precision, true, MatMut::new(dx, rows, in_features), a, b);
        };
        let mut dropped = cpu.buffers.take(dx.len());
        cpu.gemm(compute.precision, false, MatMut::new(&mut dropped, rows, in_features), a, b);
        cpu.dropout(&mut dropped, probability, seed);
        cpu.add(dx, &dropped);
    }

    /// Adds the gradients of A and B; `dy` is as [`LowRank::scaled`] makes it.
    pub(super) fn backward_weight(
        &self,
        compute: Compute<'_>,
        grads: &mut Parameters,
        (dy, x, rows): (&[f32], &[f32], usize),
    ) {
        let (cpu, out, in_features) = (compute.cpu, dy.len() / rows, x.len() / rows);
        let dropped = self.dropped(compute, x);
        let x = dropped.as_deref().unwrap_or(x);
        let projected = self.project(compute, x);
        let db = MatMut::new(grads.slice_mut(self.place.b), out, self.rank);
        let (a, b) = (MatRef::new(dy, rows, out).t(), MatRef::new(&projected, rows, self.rank));
        cpu.gemm(compute.precision, true, db, a, b);
        let dprojected = self.project_back(compute, dy, rows);
        let da = MatMut::new(grads.slice_mut(self.place.a), self.rank, in_features);
        let (a, b) = (MatRef::new(&dprojected, rows, self.rank).t(), MatRef::new(x, rows, in_features));
        cpu.gemm(compute.precision, true, da, a, b);
    }

    /// Adds the gradient of DoRA's magnitudes, from `product = x W^T`.
    pub(super) fn backward_magnitude(
        &self,
        compute: Compute<'_>,
        grads: &mut Parameters,
        (dy, x, mut product): (&[f32], &[f32], Buffer),
    ) {
        let Some(gains) = &self.gains else { return };
        self.add_product(compute, &mut product, x);
        let mut sums = compute.cpu.buffers.zeros(gains.norm.len());
        compute.cpu.column_dots(&mut sums, dy, &product);
        let dm = grads.slice_mut(gains.place);
        dm.iter_mut().zip(sums.iter().zip(gains.norm)).for_each(|(dm, (sum, norm))| *dm += sum / norm);
    }

    /// `y [N, out] += s drop(x) A^T B^T`.
    fn add_product(&self, compute: Compute<'_>, y: &mut [f32], x: &[f32]) {
        let in_features = self.a.len() / self.rank;
        let (rows, out) = (x.len() / in_features, self.b.len() / self.rank);
        let dropped = self.dropped(compute, x);
        let projected = self.project(compute, dropped.as_deref().unwrap_or(x));
        let (a, b) = (MatRef::new(&projected, rows, self.rank), MatRef::new(self.b, out, self.rank).t());
        compute.cpu.gemm(compute.precision, true, MatMut::new(y, rows, out), a, b);
    }

    /// `s x A^T [N, r]`.
    fn project(&self, compute: Compute<'_>, x: &[f32]) -> Buffer {
        let in_features = self.a.len() / self.rank;
        let rows = x.len() / in_features;
        let mut projected = compute.cpu.buffers.take(rows * self.rank);
        let (a, b) = (MatRef::new(x, rows, in_features), MatRef::new(self.a, self.rank, in_features).t());
        compute.cpu.gemm(compute.precision, false, MatMut::new(&mut projected, rows, self.rank), a, b);
        compute.cpu.scale(&mut projected, self.scale);
        projected
    }

    /// `s dy B [N, r]`.
    fn project_back(&self, compute: Compute<'_>, dy: &[f32], rows: usize) -> Buffer {
        let out = dy.len() / rows;
        let mut projected = compute.cpu.buffers.take(rows * self.rank);
        let (a, b) = (MatRef::new(dy, rows, out), MatRef::new(self.b, out, self.rank));
        compute.cpu.gemm(compute.precision, false, MatMut::new(&mut projected, rows, self.rank), a, b);
        compute.cpu.scale(&mut projected, self.scale);
        projected
    }

    fn dropped(&self, compute: Compute<'_>, x: &[f32]) -> Option<Buffer> {
        let (probability, seed) = self.dropout?;
        let mut dropped = compute.cpu.buffers.copy(x);
        compute.cpu.dropout(&mut dropped, probability, seed);
        Some(dropped)
    }

    /// The gains `m / norm`.
    fn factors(&self, compute: Compute<'_>) -> Option<Buffer> {
        let gains = self.gains.as_ref()?;
        let mut factors = compute.cpu.buffers.copy(gains.magnitude);
        factors.iter_mut().zip(gains.norm).for_each(|(factor, norm)| *factor /= norm);
        Some(factors)
    }
}
