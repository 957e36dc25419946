//! The definition of every operation, as plain loops; other instruction sets are compared with these for ever.

mod activation;
mod attention;
mod dropout;
mod gemm;
mod loss;
mod norm;
mod optimizer;
mod packed;
mod rope;

use crate::floats::{FloatKernels, Gemm};

pub(crate) use packed::PACKED;

/// The plain loops.
pub(crate) const FLOATS: FloatKernels = FloatKernels {
    gemm: Gemm::Rows(gemm::gemm),
    rms_norm: norm::rms_norm,
    rms_norm_backward: norm::rms_norm_backward,
    layer_norm: norm::layer_norm,
    layer_norm_backward: norm::layer_norm_backward,
    rope: rope::rope,
    silu_mul: activation::silu_mul,
    silu_mul_backward: activation::silu_mul_backward,
    add: activation::add,
    scale: activation::scale,
    log_sum_exp: loss::log_sum_exp,
    scaled_softmax: loss::scaled_softmax,
    dropout: dropout::dropout,
    adamw: optimizer::adamw,
    sum_squares: optimizer::sum_squares,
    attention: attention::attention,
    attention_backward: attention::attention_backward,
};
