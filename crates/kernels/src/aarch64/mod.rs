//! Kernels for aarch64, and which of their instruction sets this CPU has.
//!
//! The features tested here are those that the kernels of a set may enable.

pub(crate) mod neon;
pub(crate) mod packed;

use std::arch::is_aarch64_feature_detected;

/// What the set `neon` may use: NEON, with which every 64-bit Arm CPU that runs a common system comes.
pub(crate) fn has_neon() -> bool {
    is_aarch64_feature_detected!("neon")
}

/// What the set `neon-dotprod` may use besides: dot products of signed bytes (Armv8.2 and later).
pub(crate) fn has_dotprod() -> bool {
    has_neon() && is_aarch64_feature_detected!("dotprod")
}

/// What the set `neon-i8mm` may use besides: products of 2 x 8 byte matrices, and dot products of unsigned with signed
/// bytes (Armv8.6 and later).
pub(crate) fn has_i8mm() -> bool {
    has_dotprod() && is_aarch64_feature_detected!("i8mm")
}
