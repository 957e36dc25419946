//! Float kernels for NEON: every 64-bit Arm CPU has it.

mod gemm;
mod vector;

use crate::floats::Gemm;
use crate::simd::table::float_kernels;
use vector::Neon;

float_kernels!(Neon, "neon", Gemm::Packed { f32: &gemm::F32, bf16: &gemm::ROUNDED, int16: &gemm::INTEGERS });
