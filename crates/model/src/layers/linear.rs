//! The linear layer `y = x W^T + b`, `W [out, in]`: dense f32 in training, packed blocks or floats when serving.

use shakti_kernels::{Buffer, MatMut, MatRef, PackedMatrix};

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
    if let Some(packed) = all_packed(weights) {
        let mut outputs = outputs.iter_mut();
        cpu.matmul_packed_many(&mut packed.map(|w| (&mut **outputs.next().expect("one a weight"), w)), x);
    } else {
        for (weight, y) in weights.iter().zip(&mut outputs) {
            let (w, out) = (weight.dense(), weight.out_features(in_features));
            let (a, b) = (MatRef::new(x, rows, in_features), MatRef::new(w, out, in_features).t());
            cpu.gemm(compute.precision, false, MatMut::new(y, rows, out), a, b);
        }
    }
    for (weight, y) in weights.iter().zip(&mut outputs) {
        if let Some(bias) = weight.bias {
            cpu.add_bias(y, bias);
        }
    }
    outputs
}

/// The matrices, if they are packed; those of one model are all alike.
fn all_packed<'a, const COUNT: usize>(
    weights: [&LinearWeight<'a>; COUNT],
) -> Option<[&'a PackedMatrix; COUNT]> {
    let mut packed = [weights.first()?.packed()?; COUNT];
    for (packed, weight) in packed.iter_mut().zip(weights) {
        *packed = weight.packed()?;
    }
    Some(packed)
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
