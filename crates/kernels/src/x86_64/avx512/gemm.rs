//! Products of f32 panels: 8 rows times 3 vectors of 16 columns, 24 of the 32 registers as sums.

use super::super::avx2::vector::Avx2;
use super::vector::Avx512;
use crate::ops::gemm::{PackSource, PackedGemm, Tile, no_state};
use crate::simd;

const ROWS: usize = 8;
const VECTORS: usize = 3;

/// Full precision.
pub(crate) static F32: PackedGemm = PackedGemm {
    rows: ROWS,
    cols: 16 * VECTORS,
    lanes: 16,
    words: |depth| depth,
    // A panel of B is then 126 KiB and comes from the L2 cache, which is fast enough; `C` is gone through less often.
    block_k: 672,
    pack_a,
    pack_b,
    tile,
    enter: no_state,
    leave: no_state,
};

/// Inputs rounded to bf16 while packing, multiplied as f32.
pub(crate) static ROUNDED: PackedGemm = PackedGemm { pack_a: pack_a_rounded, pack_b: pack_b_rounded, ..F32 };

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack_a(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512, which includes AVX2; the caller's promise
    // about the source.
    unsafe { simd::pack::pack(simd::pack::Squares(Avx2::new()), to, width, source) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack_b(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack_a`.
    unsafe { simd::pack::pack(simd::pack::Squares(Avx512::new()), to, width, source) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack_a_rounded(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack_a`.
    unsafe { pack_a(to, width, source) };
    simd::pack::round_to_bf16(to);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack_b_rounded(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack_a`.
    unsafe { pack_b(to, width, source) };
    simd::pack::round_to_bf16(to);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn tile(a: *const u32, b: *const u32, tile: &Tile) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512; the caller's promise about panels and tile.
    unsafe { simd::gemm::tile::<Avx512, ROWS, VECTORS>(Avx512::new(), a.cast(), b.cast(), tile) };
}
