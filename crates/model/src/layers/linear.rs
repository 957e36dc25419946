//! The linear layer `y = x W^T + b`, `W [out, in]`: dense f32 in training, packed blocks or floats when serving.

use shakti_kernels::{MatMut, MatRef};

use super::Compute;
use crate::params::{Parameters, Place};
use crate::weights::{LinearWeight, Matrix};

/// `y [N, out] = x [N, in] W^T + b`.
pub(crate) fn forward(
    compute: Compute<'_>,
    weight: &LinearWeight<'_>,
    x: &[f32],
    in_features: usize,
) -> Vec<f32> {
    let (cpu, rows) = (compute.cpu, x.len() / in_features);
    let mut y = match weight.matrix {
        Matrix::Dense(w) => {
            let out = w.len() / in_features;
            let mut y = vec![0.0; rows * out];
            let (a, b) = (MatRef::new(x, rows, in_features), MatRef::new(w, out, in_features).t());
            cpu.gemm(compute.precision, false, MatMut::new(&mut y, rows, out), a, b);
            y
        }
        Matrix::Packed(w) => {
            let mut y = vec![0.0; rows * w.rows()];
            cpu.matmul_packed(&mut y, x, w);
            y
        }
    };
    if let Some(bias) = weight.bias {
        cpu.add_bias(&mut y, bias);
    }
    y
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
