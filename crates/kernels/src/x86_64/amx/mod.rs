//! Kernels for AMX: matrix products in bf16 tiles; everything else is that of AVX-512 BF16.

mod detect;
mod gemm;
mod pack;

#[cfg(test)]
mod tests;

pub(crate) use detect::has_amx;

use super::avx512;
use crate::floats::{FloatKernels, Gemm};

/// The float kernels.
pub(crate) const FLOATS: FloatKernels = FloatKernels {
    gemm: Gemm::Packed { f32: &avx512::gemm::F32, bf16: &gemm::BF16, int16: &avx512::int16::VNNI },
    ..avx512::FLOATS
};
