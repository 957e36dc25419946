//! The definition of every operation, as plain loops; other instruction sets are compared with these for ever.
//!
//! The functions marked `#[inline(always)]` are also compiled for each instruction set as they stand.

mod activation;
mod attention;
mod dropout;
mod gemm;
mod halves;
mod loss;
pub(crate) mod moments8;
mod norm;
mod optimizer;
mod packed;
mod rope;

pub(crate) use activation::{add, scale};
pub(crate) use dropout::dropout;
pub(crate) use halves::{to_f16, to_q8};
pub(crate) use optimizer::{adamw, axpby};
pub(crate) use rope::rope;

use crate::floats::{FloatKernels, Gemm};

pub(crate) use packed::PACKED;

/// The plain loops.
pub(crate) const FLOATS: FloatKernels = FloatKernels {
    gemm: Gemm::Rows(gemm::gemm),
    rms_norm: norm::rms_norm,
    rms_norm_backward: norm::rms_norm_backward,
    layer_norm: norm::layer_norm,
    layer_norm_backward: norm::layer_norm_backward,
    rope,
    silu_mul: activation::silu_mul,
    silu_mul_backward: activation::silu_mul_backward,
    add,
    scale,
    log_sum_exp: loss::log_sum_exp,
    scaled_softmax: loss::scaled_softmax,
    dropout,
    adamw,
    adamw8: moments8::adamw8,
    axpby,
    sum_squares: optimizer::sum_squares,
    to_f16,
    to_q8,
    attention: attention::attention,
    attention_backward: attention::attention_backward,
};
