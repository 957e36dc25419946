//! Kernels for AVX-512 (F, BW, DQ, VL), and packed matmul with VNNI.

pub(crate) mod gemm;
pub(crate) mod int16;
pub(crate) mod packed;
pub(crate) mod vector;

use crate::floats::{FloatKernels, Gemm};
use crate::simd::table::float_kernels;
use vector::Avx512;

float_kernels!(
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
    Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED, int16: &int16::VNNI }
);

/// The float kernels without VNNI.
pub(crate) const FLOATS_BW: FloatKernels = FloatKernels {
    gemm: Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED, int16: &int16::BW },
    ..FLOATS
};
