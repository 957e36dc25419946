//! Kernels for AVX-512 (F, BW, DQ, VL, VNNI).

pub(crate) mod gemm;
pub(crate) mod pack;
mod packed;
pub(crate) mod vector;

pub(crate) use packed::PACKED;

use crate::floats::{FloatKernels, Gemm};
use crate::scalar;

/// The float kernels.
pub(crate) const FLOATS: FloatKernels =
    FloatKernels { gemm: Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED }, ..scalar::FLOATS };
