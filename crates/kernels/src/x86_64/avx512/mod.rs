//! Kernels for AVX-512 (F, BW, DQ, VL), and packed matmul with VNNI.

pub(crate) mod gemm;
pub(crate) mod packed;
pub(crate) mod vector;

use crate::floats::Gemm;
use crate::simd::table::float_kernels;
use vector::Avx512;

float_kernels!(
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
    Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED }
);
