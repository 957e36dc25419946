//! Kernels for AVX2 with FMA.

pub(crate) mod gemm;
pub(crate) mod pack;
pub(crate) mod vector;

use crate::floats::{FloatKernels, Gemm};
use crate::scalar;

/// The float kernels.
pub(crate) const FLOATS: FloatKernels =
    FloatKernels { gemm: Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED }, ..scalar::FLOATS };
