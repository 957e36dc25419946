//! Copies parts of a matrix into panels: `[depth / k_per_word][width]` words for each panel of `width` lanes.
//!
//! Where lanes are contiguous in the source, rows of lanes are copied; where depth is contiguous, squares are
//! transposed in registers. Both read whole cache lines.

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

/// Packs panels of `width` lanes that fill `to`; lanes and depth that the source lacks are zero.
///
/// # Safety
/// All elements of the source can be read.
#[inline(always)]
pub(crate) unsafe fn pack<P: Packer>(packer: P, to: &mut [u32], width: usize, source: &PackSource) {
    let lanes = source.lanes.next_multiple_of(width);
    let words = to.len() / lanes;
    let full = source.depth / P::K_PER_WORD;
    let transpose = source.k_stride == 1;
    let whole = if transpose && full >= P::LANES || source.lane_stride == 1 { full } else { 0 };
    assert!(width.is_multiple_of(P::LANES) && to.len() == lanes * words && words >= full);
    // Some words of all lanes, then the next words, so that a row of lanes is read while its page is at hand.
    for start in (0..whole).step_by(P::LANES) {
        // The last square overlaps the one before it.
        let start = if transpose { start.min(whole - P::LANES) } else { start };
        let end = whole.min(start + P::LANES);
        for group in (0..lanes).step_by(P::LANES) {
            let target = &mut to[group / width * width * words + start * width + group % width..];
            if group + P::LANES > source.lanes {
                // SAFETY: the caller's promise.
                unsafe { pack_words(packer, target, width, source, group, start..end) };
                continue;
            }
            // SAFETY: the words `start..end` of the lanes `group..group + LANES` exist in the source, and in the
            // panel from `target` on, whose last row ends at or before the end of `to` (asserted sizes).
            unsafe {
                let from =
                    source.data.add(group * source.lane_stride + start * P::K_PER_WORD * source.k_stride);
                if transpose {
                    packer.square(target.as_mut_ptr(), width, from, source.lane_stride);
                } else {
                    for word in 0..end - start {
                        let from = from.add(word * P::K_PER_WORD * source.k_stride);
                        packer.row(target.as_mut_ptr().add(word * width), from, source.k_stride);
                    }
                }
            }
        }
    }
    if whole == words {
        return;
    }
    for group in (0..lanes).step_by(P::LANES) {
        let target = &mut to[group / width * width * words + whole * width + group % width..];
        // SAFETY: the caller's promise.
        unsafe { pack_words(packer, target, width, source, group, whole..words) };
    }
}

/// Packs some words of the lanes `group..group + LANES` one by one.
///
/// # Safety
/// All elements of the source can be read.
#[inline(never)]
unsafe fn pack_words<P: Packer>(
    packer: P,
    to: &mut [u32],
    width: usize,
    source: &PackSource,
    group: usize,
    words: std::ops::Range<usize>,
) {
    for (row, word) in words.enumerate() {
        for lane in 0..P::LANES {
            let mut values = [0.0; 2];
            for (i, value) in values.iter_mut().take(P::K_PER_WORD).enumerate() {
                let k = word * P::K_PER_WORD + i;
                if k < source.depth && group + lane < source.lanes {
                    // SAFETY: this element lies inside the source.
                    *value = unsafe {
                        *source.data.add((group + lane) * source.lane_stride + k * source.k_stride)
                    };
                }
            }
            to[row * width + lane] = packer.word(values);
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
