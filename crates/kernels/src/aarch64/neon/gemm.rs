//! Products of f32 panels: 8 rows times 3 vectors of 4 columns, 24 of the 32 registers as sums.
//!
//! NEON multiplies by one element of a vector, so the 8 factors of a step are two loads and need no broadcast.

use super::vector::Neon;
use crate::ops::gemm::{PackSource, PackedGemm, Tile, no_state};
use crate::simd;
use crate::simd::Simd;
use crate::simd::gemm::{prefetch, store};
use std::arch::aarch64::*;

const ROWS: usize = 8;
const VECTORS: usize = 3;
const LANES: usize = Neon::LANES;

/// Full precision.
pub(super) static F32: PackedGemm = PackedGemm {
    rows: ROWS,
    cols: LANES * VECTORS,
    lanes: LANES,
    words: |depth| depth,
    // A panel of B is then 12 KiB.
    block_k: 256,
    pack_a: pack,
    pack_b: pack,
    tile,
    enter: no_state,
    leave: no_state,
};

/// Inputs rounded to bf16 while packing, multiplied as f32.
pub(super) static ROUNDED: PackedGemm = PackedGemm { pack_a: pack_rounded, pack_b: pack_rounded, ..F32 };

/// Inputs rounded to the integers of [`int16`](crate::ops::gemm::int16) while packing, multiplied as f32.
pub(super) static INTEGERS: PackedGemm = PackedGemm { pack_a: pack_integers, pack_b: pack_integers, ..F32 };

#[target_feature(enable = "neon")]
unsafe fn pack(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: compiled for, and so only called on, a CPU with NEON; the caller's promise about the source.
    unsafe { simd::pack::pack(simd::pack::Squares(Neon::new()), to, width, source) };
}

#[target_feature(enable = "neon")]
unsafe fn pack_rounded(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack`.
    unsafe { pack(to, width, source) };
    simd::pack::round_to_bf16(to);
}

#[target_feature(enable = "neon")]
unsafe fn pack_integers(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack`.
    unsafe { pack(to, width, source) };
    simd::pack::round_to_int16(to, width, source.depth);
}

#[target_feature(enable = "neon")]
unsafe fn tile(a: *const u32, b: *const u32, tile: &Tile) {
    let (a, b) = (a.cast(), b.cast());
    // SAFETY: the caller's promise; the width of the panel is that of the columns rounded up to vectors.
    unsafe {
        match tile.cols.div_ceil(LANES) {
            1 => block::<1>(a, b, tile),
            2 => block::<2>(a, b, tile),
            _ => block::<VECTORS>(a, b, tile),
        }
    }
}

/// `C (+)= A B` for one panel of `A` (`[K][ROWS]`) and one of `B` (`[K][V * LANES]`), K ascending for every element.
///
/// # Safety
/// As [`crate::ops::gemm::TileFn`], with panels of `B` of `V` vectors.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn block<const V: usize>(mut a: *const f32, mut b: *const f32, tile: &Tile) {
    // SAFETY: compiled for, and so only called on, a CPU with NEON.
    let s = unsafe { Neon::new() };
    prefetch::<Neon, ROWS, V>(s, tile);
    let mut sums = [[s.splat(0.0); V]; ROWS];
    for _ in 0..tile.words {
        let mut columns = [s.splat(0.0); V];
        // SAFETY: the panels hold `tile.words` steps of `ROWS` and `V * LANES` elements.
        let factors = unsafe {
            for (v, column) in columns.iter_mut().enumerate() {
                *column = vld1q_f32(b.add(v * LANES));
            }
            [vld1q_f32(a), vld1q_f32(a.add(LANES))]
        };
        for (half, factors) in factors.into_iter().enumerate() {
            for (v, &column) in columns.iter().enumerate() {
                let rows = LANES * half;
                sums[rows][v] = vfmaq_laneq_f32::<0>(sums[rows][v], column, factors);
                sums[rows + 1][v] = vfmaq_laneq_f32::<1>(sums[rows + 1][v], column, factors);
                sums[rows + 2][v] = vfmaq_laneq_f32::<2>(sums[rows + 2][v], column, factors);
                sums[rows + 3][v] = vfmaq_laneq_f32::<3>(sums[rows + 3][v], column, factors);
            }
        }
        (a, b) = (a.wrapping_add(ROWS), b.wrapping_add(V * LANES));
    }
    // SAFETY: the caller's promise about `C`.
    unsafe { store(s, sums, tile) };
}
