//! What 16-bit integers stand for in a product: groups of 128 values of K that share a scale.
//!
//! Each row of `A` and each column of `B` is cut along K into groups of 128. The largest magnitude of a group becomes 4095,
//! the others are rounded to the nearest integer on that scale, so a value is off by at most 1/8190 of the largest beside it
//! (bf16: by 1/512 of itself). 128 products of such integers sum in 32 bits without rounding; the sum of a group is
//! then multiplied by both scales and added in f32. Training with such products follows Das et al., "Mixed Precision Training of
//! Convolutional Neural Networks using Integer Operations" (2018), with scales for groups instead of whole tensors.
//!
//! In a panel each lane has, for each group, its values in pairs (a word of two), then the bits of its f32 scale.

/// Values of K that share a scale.
pub(crate) const GROUP: usize = 128;
/// The magnitude that the largest value of a group gets: `GROUP` products of two such integers fit in 32 bits.
const LARGEST: f32 = 4095.0;
const _: () = assert!(GROUP as u64 * 4095 * 4095 < 1 << 31);

/// Words of one lane for `depth` values of K that start at a group's start.
#[cfg(target_arch = "x86_64")]
pub(crate) fn words(depth: usize) -> usize {
    depth / GROUP * (GROUP / 2 + 1) + (depth % GROUP).div_ceil(2) + usize::from(!depth.is_multiple_of(GROUP))
}

/// How the values of a group are turned into integers, and back.
#[derive(Clone, Copy)]
pub(crate) struct GroupScale {
    /// What an integer is multiplied by. NaN if the group holds a value that is not finite.
    pub scale: f32,
    /// What a value is multiplied by before it is rounded.
    pub inverse: f32,
}

impl GroupScale {
    /// For the largest magnitude of a group, as the bits of an f32: NaN and infinity have the largest bits.
    #[inline(always)]
    pub(crate) fn new(largest: u32) -> Self {
        let largest = f32::from_bits(largest);
        if !largest.is_finite() {
            return Self { scale: f32::NAN, inverse: 0.0 };
        }
        let inverse = LARGEST / largest;
        match inverse.is_finite() {
            true => Self { scale: largest / LARGEST, inverse },
            false => Self { scale: 0.0, inverse: 0.0 },
        }
    }
}
