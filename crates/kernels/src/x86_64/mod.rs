//! Kernels for x86-64, and which of their instruction sets this CPU has.
//!
//! The features tested here are those that the kernels of a set may enable.

pub(crate) mod avx512;

/// What the set `avx2` may use: AVX2, FMA and F16C.
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// What the set `avx512` may use besides: AVX-512 F, BW, DQ, VL and VNNI.
pub(crate) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// What the set `avx512-bf16` may use besides: AVX-512 BF16.
pub(crate) fn has_avx512_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}
