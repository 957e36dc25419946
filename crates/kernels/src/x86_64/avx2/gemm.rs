//! Products of f32 panels: 6 rows times 2 vectors of 8 columns, 12 of the 16 registers as sums.

use super::pack::Pack6;
use super::vector::Avx2;
use crate::ops::gemm::{PackSource, PackedGemm, Tile, no_state};
use crate::simd;

const ROWS: usize = 6;
const VECTORS: usize = 2;

/// Full precision.
pub(crate) static F32: PackedGemm = PackedGemm {
    rows: ROWS,
    cols: 8 * VECTORS,
    lanes: 8,
    words: |depth| depth,
    // A panel of B is then 16 KiB.
    block_k: 256,
    pack_a,
    pack_b,
    tile,
    enter: no_state,
    leave: no_state,
};

/// Inputs rounded to bf16 while packing, multiplied as f32.
pub(crate) static ROUNDED: PackedGemm = PackedGemm { pack_a: pack_a_rounded, pack_b: pack_b_rounded, ..F32 };

#[target_feature(enable = "avx2,fma")]
unsafe fn pack_a(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX2; the caller's promise about the source.
    unsafe { simd::pack::pack(Pack6(Avx2::new()), to, width, source) };
}

#[target_feature(enable = "avx2,fma")]
unsafe fn pack_b(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack_a`.
    unsafe { simd::pack::pack(simd::pack::Squares(Avx2::new()), to, width, source) };
}

#[target_feature(enable = "avx2,fma")]
unsafe fn pack_a_rounded(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack_a`.
    unsafe { pack_a(to, width, source) };
    simd::pack::round_to_bf16(to);
}

#[target_feature(enable = "avx2,fma")]
unsafe fn pack_b_rounded(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack_a`.
    unsafe { pack_b(to, width, source) };
    simd::pack::round_to_bf16(to);
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile(a: *const u32, b: *const u32, tile: &Tile) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX2; the caller's promise about panels and tile.
    unsafe { simd::gemm::tile::<Avx2, ROWS, VECTORS>(Avx2::new(), a.cast(), b.cast(), tile) };
}
