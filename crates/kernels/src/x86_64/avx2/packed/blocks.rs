//! The inner loops over blocks with AVX2: int8 products by `vpmaddubsw`, rescaled per block.
//!
//! `vpmaddubsw` adds two products in 16 bits and saturates. It never does here: activations lie in -127..=127, so two
//! products of an unsigned 4-bit weight reach 3,810, and 8 groups are added in 16 bits (30,480) before they are widened;
//! 4 groups of 5-bit weights (31,496), 2 of 6 bits (32,004). 8-bit weights are turned into their magnitude (at most
//! 128) and their sign is moved to the activation: 32,512 for one group.

#![expect(
    clippy::needless_range_loop,
    reason = "halves and rows index several arrays of accumulators at once"
)]

use super::unpack::{minimum, scale, unpack};
use super::{AHEAD, Place, for_each_place, store};
use crate::packed::TILE_WORDS;
use crate::packed::activations::{MINUS_HALF_SUMS, MINUS_SUM, SCALE, SCALED_SUM};
use crate::packed::kernels::Task;
use crate::packed::layout::{BLOCK, Format, VECTOR};
use std::arch::x86_64::*;

/// # Safety
/// As [`matmul`](super::matmul).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_blocks<F: Format>(task: &Task<'_>) {
    // SAFETY: the places are those of the task; half a panel starts at lane 0 or 8.
    unsafe {
        let start = |tile| task.x.block_tile(tile).as_ptr();
        for_each_place(task, task.w.cols() / BLOCK, start, |place, rows| match rows {
            1 => block_tile::<F, 2, 1>(place, 0),
            2 => block_tile::<F, 2, 2>(place, 0),
            3 => (0..2).for_each(|half| block_tile::<F, 1, 3>(place, half)),
            _ => (0..2).for_each(|half| block_tile::<F, 1, 4>(place, half)),
        });
    }
}

/// `H` half panels (from half `first` on) times `R` rows.
///
/// # Safety
/// AVX2, FMA, F16C; `place` has a panel and a tile of `R` rows of as many blocks, and outputs that may be written.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block_tile<F: Format, const H: usize, const R: usize>(place: Place<u32>, first: usize) {
    let layout = F::LAYOUT;
    let mut acc = [[_mm256_setzero_ps(); R]; H];
    let mut x = place.x;
    for b in 0..place.len {
        let (unit, slot) = (b / layout.unit_blocks(), b % layout.unit_blocks());
        let unit = place.w.wrapping_add(unit * layout.unit_bytes());
        if place.prefetch && first == 0 {
            let lines = layout.lines_per_block();
            for line in slot * lines..(slot + 1) * lines {
                _mm_prefetch::<_MM_HINT_T0>(unit.wrapping_add(AHEAD + line * VECTOR).cast());
            }
        }
        // SAFETY: `slot` is a block of this unit, and `x` stands at the same block.
        unsafe { block::<F, H, R>(unit, slot, first, x, &mut acc) };
        x = x.wrapping_add(R * TILE_WORDS);
    }
    // SAFETY: the caller's promise.
    unsafe { store(place, first, acc) };
}

/// One block of every row and half.
///
/// # Safety
/// As [`block_tile`], for block `slot` of the unit at `unit` and the block of the tile at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<F: Format, const H: usize, const R: usize>(
    unit: *const u8,
    slot: usize,
    first: usize,
    x: *const u32,
    acc: &mut [[__m256; R]; H],
) {
    let layout = F::LAYOUT;
    let parts = layout.scales_per_block();
    let data = unit.wrapping_add(layout.head_bytes() + slot * layout.block_bytes());
    let word = |at: usize, r: usize| x.wrapping_add(at * R + r);
    for h in 0..H {
        let half = first + h;
        for part in 0..parts {
            // SAFETY: all reads are inside the unit's block and head, or the tile's block.
            unsafe {
                let sums = match (parts, part) {
                    (1, _) => {
                        let low = four_groups::<F, R, 0>(data, half, x);
                        // Nibbles have room for all eight groups in 16 bits, so only the others are widened twice.
                        let high = four_groups::<F, R, 1>(data, half, x);
                        widen_pair::<F, R>(low, high)
                    }
                    (_, 0) => widen::<F, R>(four_groups::<F, R, 0>(data, half, x)),
                    _ => widen::<F, R>(four_groups::<F, R, 1>(data, half, x)),
                };
                let scale = scale::<F>(unit, slot, part, half);
                for r in 0..R {
                    let mut sum = sums[r];
                    if layout.bits != 8
                        && let Some(bits) = layout.offset_bits
                    {
                        let at = if parts == 1 { MINUS_SUM } else { MINUS_HALF_SUMS + part };
                        let minus_sum = _mm256_set1_epi32(word(at, r).cast::<i32>().read());
                        let start = _mm256_sll_epi32(minus_sum, _mm_cvtsi32_si128(bits as i32));
                        sum = _mm256_add_epi32(sum, start);
                    }
                    let both = _mm256_mul_ps(scale, _mm256_set1_ps(word(SCALE, r).cast::<f32>().read()));
                    acc[h][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), both, acc[h][r]);
                }
            }
        }
        if layout.has_min() {
            // SAFETY: as above.
            unsafe {
                let min = minimum::<F>(unit, slot, half);
                for r in 0..R {
                    let sum = _mm256_set1_ps(word(SCALED_SUM, r).cast::<f32>().read());
                    acc[h][r] = _mm256_fmadd_ps(min, sum, acc[h][r]);
                }
            }
        }
    }
}

/// Sums of groups `4 I .. 4 I + 4`: in 16 bits for 4-bit and 5-bit weights, in 32 bits for wider ones.
///
/// # Safety
/// As [`block`], with the block's data at `data`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn four_groups<F: Format, const R: usize, const I: usize>(
    data: *const u8,
    half: usize,
    x: *const u32,
) -> [__m256i; R] {
    let mut sums = [_mm256_setzero_si256(); R];
    for pair in 0..2 {
        // SAFETY: all reads are inside the block or the tile's block.
        let weights = unsafe {
            match (I, pair) {
                (0, 0) => unpack::<F, 0>(data, half),
                (0, _) => unpack::<F, 1>(data, half),
                (_, 0) => unpack::<F, 2>(data, half),
                _ => unpack::<F, 3>(data, half),
            }
        };
        let four = |g: usize, r: usize| {
            let word = x.wrapping_add((4 * I + 2 * pair + g) * R + r);
            // SAFETY: a word of the tile's block.
            _mm256_set1_epi32(unsafe { word.cast::<i32>().read() })
        };
        for r in 0..R {
            sums[r] = add_products::<F>(sums[r], weights, [four(0, r), four(1, r)]);
        }
    }
    sums
}

/// Adds the products of two groups to the sums of a row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_products<F: Format>(sums: __m256i, weights: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    match F::LAYOUT.bits {
        4 | 5 => {
            let pair = _mm256_add_epi16(
                _mm256_maddubs_epi16(weights[0], x[0]),
                _mm256_maddubs_epi16(weights[1], x[1]),
            );
            _mm256_add_epi16(sums, pair)
        }
        6 => {
            let pair = _mm256_add_epi16(
                _mm256_maddubs_epi16(weights[0], x[0]),
                _mm256_maddubs_epi16(weights[1], x[1]),
            );
            _mm256_add_epi32(sums, _mm256_madd_epi16(pair, ones))
        }
        _ => {
            let product = |w, x| {
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
                _mm256_madd_epi16(products, ones)
            };
            let pair = _mm256_add_epi32(product(weights[0], x[0]), product(weights[1], x[1]));
            _mm256_add_epi32(sums, pair)
        }
    }
}

/// Sums of four groups in 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen<F: Format, const R: usize>(sums: [__m256i; R]) -> [__m256i; R] {
    match F::LAYOUT.bits {
        4 | 5 => sums.map(|sums| _mm256_madd_epi16(sums, _mm256_set1_epi16(1))),
        _ => sums,
    }
}

/// Sums of eight groups in 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_pair<F: Format, const R: usize>(low: [__m256i; R], high: [__m256i; R]) -> [__m256i; R] {
    let ones = _mm256_set1_epi16(1);
    std::array::from_fn(|r| match F::LAYOUT.bits {
        4 => _mm256_madd_epi16(_mm256_add_epi16(low[r], high[r]), ones),
        5 => _mm256_add_epi32(_mm256_madd_epi16(low[r], ones), _mm256_madd_epi16(high[r], ones)),
        _ => _mm256_add_epi32(low[r], high[r]),
    })
}
