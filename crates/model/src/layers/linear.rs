//! The linear layer `y = x W^T + b`, `W [out, in]`: dense f32 in training, packed blocks or floats when serving.

use shakti_kernels::{Buffer, MatMut, MatRef};

use super::Compute;
use crate::params::{Parameters, Place};
use crate::weights::LinearWeight;

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
    let mut places = outputs.iter_mut().map(|output| &mut **output);
    let mut place = || places.next().expect("one a weight");
    if let Some(packed) = all(weights.map(LinearWeight::packed)) {
        cpu.matmul_packed_many(&mut packed.map(|w| (place(), w)), x);
    } else if let Some(stored) = all(weights.map(LinearWeight::stored)) {
        cpu.matmul_stored_many(&mut stored.map(|w| (place(), w)), x);
    } else {
        for weight in weights {
            let (w, out) = (weight.dense(), weight.out_features(in_features));
            let (a, b) = (MatRef::new(x, rows, in_features), MatRef::new(w, out, in_features).t());
            cpu.gemm(compute.precision, false, MatMut::new(place(), rows, out), a, b);
        }
    }
    for (weight, y) in weights.iter().zip(&mut outputs) {
        if let Some(bias) = weight.bias {
            cpu.add_bias(y, bias);
        }
    }
    outputs
}

/// The matrices, if all are there; those of one model are all alike.
fn all<T, const COUNT: usize>(matrices: [Option<T>; COUNT]) -> Option<[T; COUNT]> {
    let are_there = matrices.iter().all(Option::is_some);
    are_there.then(|| matrices.map(|matrix| matrix.expect("all are there")))
}

/// `dx [N, in] (+)= dy [N, out] W`.
pub(crate) fn backward_input(
    compute: Compute<'_>,
    weight: &LinearWeight<'_>,
    dx: &mut [f32],
    dy: &[f32],
    (accumulate, rows): (bool, usize),
) {
    let (out, in_features) = (dy.len() / rows, dx.len() / rows);
    let (a, b) = (MatRef::new(dy, rows, out), MatRef::new(weight.dense(), out, in_features));
    compute.cpu.gemm(compute.precision, accumulate, MatMut::new(dx, rows, in_features), a, b);
}

/// `dW [out, in] += dy^T [out, N] x [N, in]`, and `db += sum of dy` over rows.
pub(crate) fn backward_weight(
    compute: Compute<'_>,
    place: Place,
    grads: &mut Parameters,
    (dy, x, rows): (&[f32], &[f32], usize),
) {
    let (out, in_features) = (dy.len() / rows, x.len() / rows);
    let (a, b) = (MatRef::new(dy, rows, out).t(), MatRef::new(x, rows, in_features));
    let dw = MatMut::new(grads.slice_mut(place.weight), out, in_features);
    compute.cpu.gemm(compute.precision, true, dw, a, b);
    if let Some(bias) = place.bias {
        compute.cpu.bias_backward(grads.slice_mut(bias), dy);
    }
}
