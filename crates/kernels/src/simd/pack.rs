//! Copies parts of a matrix into panels: `[words][width]` for each panel of `width` lanes.
//!
//! Where lanes are contiguous in the source, rows of lanes are copied; where depth is contiguous, squares are
//! transposed in registers. Both read whole cache lines.

use super::Simd;
use crate::ops::gemm::PackSource;

/// The part of packing that depends on the instruction set and on the type the product multiplies.
pub(crate) trait Packer: Copy {
    /// Lanes that are packed at a time; panels are a multiple of it.
    const LANES: usize;
    /// Values of one lane in a word, in ascending order from the low bits.
    const K_PER_WORD: usize;

    /// `LANES` words of depth for `LANES` lanes from a source whose depth is contiguous.
    ///
    /// # Safety
    /// `LANES` rows, `lane_stride` apart, of `LANES * K_PER_WORD` values can be read; `LANES` rows, `width >= LANES`
    /// apart, of `LANES` words can be written.
    unsafe fn square(self, to: *mut u32, width: usize, from: *const f32, lane_stride: usize);

    /// One word of depth for `LANES` lanes from a source whose lanes are contiguous.
    ///
    /// # Safety
    /// `K_PER_WORD` rows, `k_stride` apart, of `LANES` values can be read, and `LANES` words can be written.
    unsafe fn row(self, to: *mut u32, from: *const f32, k_stride: usize);

    /// One word from up to `K_PER_WORD` values; those that are missing are zero.
    fn word(self, values: [f32; 2]) -> u32;
}

/// Packs f32 panels of a multiple of a vector's lanes.
#[derive(Clone, Copy)]
pub(crate) struct Squares<S>(pub S);

impl<S: Simd> Packer for Squares<S> {
    const LANES: usize = S::LANES;
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn square(self, to: *mut u32, width: usize, from: *const f32, lane_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.transpose_ptr(from, lane_stride, to.cast(), width) };
    }

    #[inline(always)]
    unsafe fn row(self, to: *mut u32, from: *const f32, _k_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_ptr(to.cast(), self.0.load_ptr(from)) }
    }

    #[inline(always)]
    fn word(self, [value, _]: [f32; 2]) -> u32 {
        value.to_bits()
    }
}

/// Packs panels of `width` lanes that fill `to`; lanes and depth that the source lacks are zero.
///
/// # Safety
/// All elements of the source can be read.
#[inline(always)]
pub(crate) unsafe fn pack<P: Packer>(packer: P, to: &mut [u32], width: usize, source: &PackSource) {
    let words = to.len() / source.lanes.next_multiple_of(width);
    let full = source.depth / P::K_PER_WORD;
    let transpose = source.k_stride == 1 && full >= P::LANES;
    // Words that are packed many at a time.
    let whole = if transpose || source.lane_stride == 1 { full } else { 0 };
    assert!(width.is_multiple_of(P::LANES) && words >= source.depth.div_ceil(P::K_PER_WORD));
    for (panel, to) in to.chunks_exact_mut(width * words).enumerate() {
        for offset in (0..width).step_by(P::LANES) {
            let lane = panel * width + offset;
            let fast = if lane + P::LANES > source.lanes { 0 } else { whole };
            if transpose && fast > 0 {
                // SAFETY: the source has these lanes in the whole depth `full`, and the panel has `words >= full`.
                unsafe { transposed_lanes(packer, &mut to[offset..], width, source, lane) };
            }
            if fast < words {
                let to = &mut to[fast * width + offset..];
                // SAFETY: the caller's promise.
                unsafe { single_words(packer, to, width, source, lane, fast..words) };
            }
        }
    }
    if !transpose && whole > 0 {
        // SAFETY: the caller's promise; lanes are contiguous in the source.
        unsafe { rows_of_lanes(packer, to, width, source) };
    }
}

/// Packs the whole words of `LANES` lanes from `lane` on, in squares along the depth; the last overlaps the one before.
///
/// # Safety
/// The source has these lanes, its depth is contiguous and at least a square's; a panel of its words starts at `to`.
#[inline(always)]
unsafe fn transposed_lanes<P: Packer>(
    packer: P,
    to: &mut [u32],
    width: usize,
    source: &PackSource,
    lane: usize,
) {
    let full = source.depth / P::K_PER_WORD;
    for start in (0..full).step_by(P::LANES) {
        let start = start.min(full - P::LANES);
        let to = &mut to[start * width..(start + P::LANES - 1) * width + P::LANES];
        // SAFETY: a square of words lies inside the lanes of the source and inside `to` (just sliced).
        unsafe {
            let from = source.data.add(lane * source.lane_stride + start * P::K_PER_WORD);
            packer.square(to.as_mut_ptr(), width, from, source.lane_stride);
        }
    }
}

/// Packs the whole words of all complete groups of `LANES` lanes: some words of all groups, then the next words, so that
/// a row of lanes is read while its page is at hand.
///
/// # Safety
/// All elements of the source can be read, and its lanes are contiguous.
#[inline(always)]
unsafe fn rows_of_lanes<P: Packer>(packer: P, to: &mut [u32], width: usize, source: &PackSource) {
    let words = to.len() / source.lanes.next_multiple_of(width);
    let full = source.depth / P::K_PER_WORD;
    for start in (0..full).step_by(16) {
        for (panel, to) in to.chunks_exact_mut(width * words).enumerate() {
            for offset in (0..width).step_by(P::LANES) {
                let lane = panel * width + offset;
                if lane + P::LANES > source.lanes {
                    break;
                }
                for word in start..full.min(start + 16) {
                    let to = &mut to[word * width + offset..][..P::LANES];
                    // SAFETY: the source has this word of these lanes.
                    unsafe {
                        let from = source.data.add(lane + word * P::K_PER_WORD * source.k_stride);
                        packer.row(to.as_mut_ptr(), from, source.k_stride);
                    }
                }
            }
        }
    }
}

/// Packs some words of `LANES` lanes from `lane` on one by one.
///
/// # Safety
/// All elements of the source can be read.
#[inline(never)]
unsafe fn single_words<P: Packer>(
    packer: P,
    to: &mut [u32],
    width: usize,
    source: &PackSource,
    lane: usize,
    words: std::ops::Range<usize>,
) {
    for (row, word) in words.enumerate() {
        for i in 0..P::LANES {
            let mut values = [0.0; 2];
            for (part, value) in values.iter_mut().take(P::K_PER_WORD).enumerate() {
                let k = word * P::K_PER_WORD + part;
                if k < source.depth && lane + i < source.lanes {
                    // SAFETY: this element lies inside the source.
                    *value =
                        unsafe { *source.data.add((lane + i) * source.lane_stride + k * source.k_stride) };
                }
            }
            to[row * width + i] = packer.word(values);
        }
    }
}

/// Rounds packed f32 values to bf16 (nearest, ties to even), for sets whose products take f32.
#[inline(always)]
pub(crate) fn round_to_bf16(words: &mut [u32]) {
    for word in words {
        let rounded = word.wrapping_add(0x7FFF + ((*word >> 16) & 1)) & 0xFFFF_0000;
        // Adding could turn a NaN into an infinity.
        *word = if *word & 0x7FFF_FFFF > 0x7F80_0000 { *word | 0x0040_0000 } else { rounded };
    }
}

/// Rounds packed f32 values, panels of `[depth][width]`, to the integers of [`int16`](crate::ops::gemm::int16) times their
/// scales, for sets whose products take f32.
#[cfg(target_arch = "aarch64")]
pub(crate) fn round_to_int16(words: &mut [u32], width: usize, depth: usize) {
    use crate::ops::gemm::int16::{GROUP, GroupScale};
    for group in words.chunks_exact_mut(width * depth).flat_map(|panel| panel.chunks_mut(width * GROUP)) {
        for lane in 0..width {
            let largest = group[lane..].iter().step_by(width).map(|word| word & 0x7FFF_FFFF).max();
            let GroupScale { scale, inverse } = GroupScale::new(largest.unwrap_or(0));
            for word in group[lane..].iter_mut().step_by(width) {
                *word = ((f32::from_bits(*word) * inverse).round_ties_even() * scale).to_bits();
            }
        }
    }
}
