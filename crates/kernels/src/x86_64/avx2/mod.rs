//! Kernels for AVX2 with FMA.

pub(crate) mod gemm;
mod int16;
mod pack;
pub(crate) mod packed;
pub(crate) mod vector;

use crate::floats::{FloatKernels, Gemm};
use crate::simd::table::float_kernels;
use vector::Avx2;

float_kernels!(
    Avx2,
    "avx2,fma,f16c",
    Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED, int16: &int16::PLAIN }
);

/// The float kernels with AVX-VNNI.
pub(crate) const FLOATS_VNNI: FloatKernels = FloatKernels {
    gemm: Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED, int16: &int16::VNNI },
    ..FLOATS
};
