//! Dropout by a hash of the element's index: keep iff `hash(index) >= threshold`.
//!
//! The hash is two rounds of xor-shift and multiplication on the low 32 bits of the index, keyed before each round;
//! the keys come from the seed and the high bits. Its inputs are below 2^32, so it is a bijection of the index for
//! each key and the share of dropped elements over 2^32 indices is exact.

use crate::ops::dropout::DropoutRule;

/// Applies the rule to `x`, whose first element has index `first`.
#[inline(always)]
pub(crate) fn dropout(x: &mut [f32], first: u64, rule: &DropoutRule) {
    for (i, x) in x.iter_mut().enumerate() {
        let kept = hash((first as u32).wrapping_add(i as u32), rule.keys) >= rule.threshold;
        *x = if kept { *x * rule.scale } else { 0.0 };
    }
}

#[inline(always)]
fn hash(index: u32, keys: [u32; 2]) -> u32 {
    let x = index ^ keys[0];
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    let x = x ^ (x >> 15) ^ keys[1];
    let x = x.wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}
