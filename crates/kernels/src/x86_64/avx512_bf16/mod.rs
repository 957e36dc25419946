//! Kernels for AVX-512 BF16: matrix products in bf16; everything else is that of AVX-512.

pub(crate) mod gemm;
pub(crate) mod pack;

use super::avx512;
use crate::floats::{FloatKernels, Gemm};

/// The float kernels.
pub(crate) const FLOATS: FloatKernels = FloatKernels {
    gemm: Gemm::Packed { f32: &avx512::gemm::F32, bf16: &gemm::BF16, int16: &avx512::int16::VNNI },
    ..avx512::FLOATS
};
