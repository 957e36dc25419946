//! Kernels for x86-64, and which of their instruction sets this CPU has.
//!
//! The features tested here are those that the kernels of a set may enable.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod avx512_bf16;
mod transpose;

/// What the set `avx2` may use: AVX2, FMA and F16C.
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// What the set `avx2-vnni` may use besides: AVX-VNNI.
pub(crate) fn has_avx2_vnni() -> bool {
    has_avx2() && is_x86_feature_detected!("avxvnni")
}

/// What the set `avx512-bw` may use besides what `avx2` may: AVX-512 F, BW, DQ and VL.
pub(crate) fn has_avx512_bw() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// What the set `avx512` may use besides: AVX-512 VNNI.
pub(crate) fn has_avx512() -> bool {
    has_avx512_bw() && is_x86_feature_detected!("avx512vnni")
}

/// What the set `avx512-bf16` may use besides: AVX-512 BF16.
pub(crate) fn has_avx512_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

/// Whether bf16 dot products are faster than f32 multiply-adds: on Zen 4 and later they are, on Intel's cores half as
/// fast.
pub(crate) fn multiplies_bf16_fast() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes) != [*b"Genu", *b"ineI", *b"ntel"]
}
