//! The linear layer `y = x W^T + b`, `W [out, in]`: dense f32 in training, packed blocks or floats when serving, with or
//! without a low-rank adapter beside either.

mod low_rank;

use std::ops::Range;

use shakti_kernels::{Buffer, MatMut, MatRef};

use super::Compute;
use crate::params::{Gradients, Place};
use crate::weights::LinearWeight;

/// Values of a matrix of blocks that are unpacked at a time; 16 MiB.
const PANEL_ELEMENTS: usize = 4 << 20;
/// Rows of such a panel are a multiple of this, so that sums over rows are cut where int16 shares a scale anyway.
const PANEL_ROWS: usize = 128;

/// `y [N, out] = x [N, in] W^T + b`.
pub(crate) fn forward(
    compute: Compute<'_>,
    weight: &LinearWeight<'_>,
    x: &[f32],
    in_features: usize,
) -> Buffer {
    let [y] = forward_many(compute, [weight], x, in_features);
    y
}

/// [`forward`] of several weights on the same input; packed ones run together.
pub(crate) fn forward_many<const COUNT: usize>(
    compute: Compute<'_>,
    weights: [&LinearWeight<'_>; COUNT],
    x: &[f32],
    in_features: usize,
) -> [Buffer; COUNT] {
    let (cpu, rows) = (compute.cpu, x.len() / in_features);
    let mut outputs = weights.map(|weight| cpu.buffers.take(rows * weight.out_features(in_features)));
    weights.iter().for_each(|weight| weight.observe(x));
    multiply(compute, &weights, &mut outputs, x, in_features);
    for (weight, y) in weights.iter().zip(&mut outputs) {
        if let Some(low_rank) = &weight.low_rank {
            low_rank.forward(compute, y, x);
        }
        if let Some(bias) = weight.bias {
            cpu.add_bias(y, bias);
        }
    }
    outputs
}

/// `y = x W^T` of each matrix.
fn multiply<const COUNT: usize>(
    compute: Compute<'_>,
    weights: &[&LinearWeight<'_>; COUNT],
    outputs: &mut [Buffer; COUNT],
    x: &[f32],
    in_features: usize,
) {
    let by_values = weights.iter().any(|weight| weight.by_values);
    let mut places = outputs.iter_mut().map(|output| &mut **output);
    let mut place = || places.next().expect("one a weight");
    if let Some(packed) = all(weights.map(|weight| weight.packed().filter(|_| !by_values))) {
        compute.cpu.matmul_packed_many(&mut packed.map(|w| (place(), w)), x);
    } else if let Some(stored) = all(weights.map(|weight| weight.stored().filter(|_| !by_values))) {
        compute.cpu.matmul_stored_many(&mut stored.map(|w| (place(), w)), x);
    } else if let Some(values) = all(weights.map(|weight| weight.dense())) {
        let rows = x.len() / in_features;
        let mut c = values.map(|values| MatMut::new(place(), rows, values.len() / in_features));
        let b = values.map(|values| MatRef::new(values, values.len() / in_features, in_features).t());
        compute.cpu.gemm_same_a(compute.precision, &mut c, MatRef::new(x, rows, in_features), &b);
    } else {
        for weight in weights {
            multiply_values(compute, weight, place(), x, in_features);
        }
    }
}

/// The matrices, if all are there; those of one model are all alike.
fn all<T, const COUNT: usize>(matrices: [Option<T>; COUNT]) -> Option<[T; COUNT]> {
    let are_there = matrices.iter().all(Option::is_some);
    are_there.then(|| matrices.map(|matrix| matrix.expect("all are there")))
}

/// `y [N, out] = x [N, in] W^T` by the f32 values of `W`.
fn multiply_values(
    compute: Compute<'_>,
    weight: &LinearWeight<'_>,
    y: &mut [f32],
    x: &[f32],
    in_features: usize,
) {
    let (rows, out) = (x.len() / in_features, weight.out_features(in_features));
    for_values(compute, weight, [out, in_features], |range, values| {
        let (a, b) = (MatRef::new(x, rows, in_features), MatRef::new(values, range.len(), in_features).t());
        let c = MatMut { data: &mut y[range.start..], rows, cols: range.len(), row_stride: out };
        compute.cpu.gemm(compute.precision, false, c, a, b);
    });
}

/// Calls `each` with the f32 values of all rows of a matrix `[out, in]`: at once if it is dense, else some at a time.
pub(crate) fn for_values(
    compute: Compute<'_>,
    weight: &LinearWeight<'_>,
    [out, in_features]: [usize; 2],
    mut each: impl FnMut(Range<usize>, &[f32]),
) {
    if let Some(values) = weight.dense() {
        return each(0..out, values);
    }
    let step = (PANEL_ELEMENTS / in_features).next_multiple_of(PANEL_ROWS).min(out);
    let mut values = compute.cpu.buffers.take(step * in_features);
    for start in (0..out).step_by(step) {
        let range = start..(start + step).min(out);
        let values = &mut values[..range.len() * in_features];
        weight.rows(compute.cpu, range.clone(), values);
        each(range, values);
    }
}

/// The backward pass of several weights on the same input `x [N, in]`, whose gradient takes its place; `dy [N, out]` of each.
pub(crate) fn backward_many<const COUNT: usize>(
    compute: Compute<'_>,
    layers: [(&LinearWeight<'_>, Place); COUNT],
    grads: &mut Gradients<'_>,
    dy: [&[f32]; COUNT],
    (x, rows): (&mut Buffer, usize),
) {
    let is_plain = layers.iter().all(|(weight, place)| weight.low_rank.is_none() && place.bias.is_none());
    let plain = all(layers.map(|(weight, _)| weight.dense().filter(|_| is_plain)));
    let in_features = x.len() / rows;
    if let Some((values, dw)) = plain.zip(grads.model_many(layers.map(|(_, place)| place.weight))) {
        let dy: [MatRef<'_>; COUNT] = dy.map(|dy| MatRef::new(dy, rows, dy.len() / rows));
        let mut dw = dw.map(|dw| MatMut {
            rows: dw.len() / in_features,
            cols: in_features,
            row_stride: in_features,
            data: dw,
        });
        compute.cpu.gemm_same_b(
            compute.precision,
            &mut dw,
            &dy.map(MatRef::t),
            MatRef::new(x, rows, in_features),
        );
        let values = values.map(|values| MatRef::new(values, values.len() / in_features, in_features));
        return compute.cpu.gemm_sum(compute.precision, MatMut::new(x, rows, in_features), &dy, &values);
    }
    let mut dx = compute.cpu.buffers.take(x.len());
    for (index, (weight, place)) in layers.into_iter().enumerate() {
        backward_weight(compute, (weight, place), grads, (dy[index], x, rows));
        backward_input(compute, weight, &mut dx, dy[index], (index > 0, rows));
    }
    *x = dx;
}

/// `dx [N, in] (+)= dy [N, out] W`, and what the adapter adds to `W`.
pub(crate) fn backward_input(
    compute: Compute<'_>,
    weight: &LinearWeight<'_>,
    dx: &mut [f32],
    dy: &[f32],
    (accumulate, rows): (bool, usize),
) {
    let (out, in_features) = (dy.len() / rows, dx.len() / rows);
    let scaled = weight.low_rank.as_ref().and_then(|low_rank| low_rank.scaled(compute, dy));
    let dy = scaled.as_deref().unwrap_or(dy);
    for_values(compute, weight, [out, in_features], |range, values| {
        let a = MatRef { data: &dy[range.start..], rows, cols: range.len(), row_stride: out, col_stride: 1 };
        let b = MatRef::new(values, range.len(), in_features);
        let c = MatMut::new(dx, rows, in_features);
        compute.cpu.gemm(compute.precision, accumulate || range.start > 0, c, a, b);
    });
    if let Some(low_rank) = &weight.low_rank {
        low_rank.backward_input(compute, dx, dy, rows);
    }
}

/// Gradients of what is trained, from `dy [N, out]` and `x [N, in]`: `dW [out, in] += dy^T x` and `db += sum of dy` over
/// rows, or those of the adapter.
pub(crate) fn backward_weight(
    compute: Compute<'_>,
    (weight, place): (&LinearWeight<'_>, Place),
    grads: &mut Gradients<'_>,
    (dy, x, rows): (&[f32], &[f32], usize),
) {
    let (out, in_features) = (dy.len() / rows, x.len() / rows);
    if let Some(dw) = grads.model(place.weight) {
        let (a, b) = (MatRef::new(dy, rows, out).t(), MatRef::new(x, rows, in_features));
        compute.cpu.gemm(compute.precision, true, MatMut::new(dw, out, in_features), a, b);
    }
    if let Some(db) = place.bias.and_then(|bias| grads.model(bias)) {
        compute.cpu.bias_backward(db, dy);
    }
    let (Some(low_rank), Some(grads)) = (&weight.low_rank, grads.adapter()) else { return };
    if low_rank.gains.is_some() {
        let mut product = compute.cpu.buffers.take(dy.len());
        multiply_values(compute, weight, &mut product, x, in_features);
        low_rank.backward_magnitude(compute, grads, (dy, x, product));
    }
    let scaled = low_rank.scaled(compute, dy);
    low_rank.backward_weight(compute, grads, (scaled.as_deref().unwrap_or(dy), x, rows));
}
