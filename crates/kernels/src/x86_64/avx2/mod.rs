//! Kernels for AVX2 with FMA.

pub(crate) mod gemm;
mod pack;
pub(crate) mod packed;
pub(crate) mod vector;

use crate::floats::Gemm;
use crate::simd::table::float_kernels;
use vector::Avx2;

float_kernels!(Avx2, "avx2,fma,f16c", Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED });
