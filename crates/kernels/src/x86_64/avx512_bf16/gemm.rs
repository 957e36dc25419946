//! Products of bf16 panels: 8 rows times 3 vectors of 16 columns; one instruction multiplies a pair of each column with
//! a pair of the row and adds both products to the f32 sum.
//!
//! The instruction treats denormal inputs and results as zero, which the tolerance against the plain loops allows for.

use super::super::avx512::vector::Avx512;
use super::pack::{Bf16, Pairs8, Pairs16};
use crate::ops::gemm::{PackSource, PackedGemm, Tile, no_state};
use crate::simd;
use std::arch::x86_64::*;

const ROWS: usize = 8;
const VECTORS: usize = 3;

/// Inputs rounded to bf16 while packing.
pub(crate) static BF16: PackedGemm = PackedGemm {
    rows: ROWS,
    cols: 16 * VECTORS,
    lanes: 16,
    words: |depth| depth.div_ceil(2),
    // A panel of B is then 48 KiB.
    block_k: 512,
    pack_a,
    pack_b,
    tile,
    enter: no_state,
    leave: no_state,
};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn pack_a(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512 BF16; the caller's promise about the source.
    unsafe { simd::pack::pack(Pairs8(Bf16::new()), to, width, source) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(crate) unsafe fn pack_b(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: as in `pack_a`.
    unsafe { simd::pack::pack(Pairs16(Bf16::new()), to, width, source) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn tile(a: *const u32, b: *const u32, tile: &Tile) {
    // SAFETY: the caller's promise; the width of the panel is that of the columns rounded up to vectors.
    unsafe {
        match tile.cols.div_ceil(16) {
            1 => block::<1>(a, b, tile),
            2 => block::<2>(a, b, tile),
            _ => block::<VECTORS>(a, b, tile),
        }
    }
}

/// # Safety
/// As `tile`, with panels of `B` of `COLUMNS` vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn block<const COLUMNS: usize>(mut a: *const u32, mut b: *const u32, tile: &Tile) {
    let mut sums = [[_mm512_setzero_ps(); COLUMNS]; ROWS];
    for _ in 0..tile.words {
        // SAFETY: the panels hold `tile.words` steps of `ROWS` and `16 COLUMNS` words.
        unsafe {
            let mut columns = [_mm512_setzero_si512(); COLUMNS];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_loadu_si512(b.add(16 * v).cast());
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = _mm512_set1_epi32(*a.add(r) as i32);
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    let (factor, column) = (
                        std::mem::transmute::<__m512i, __m512bh>(factor),
                        std::mem::transmute::<__m512i, __m512bh>(column),
                    );
                    *sum = _mm512_dpbf16_ps(*sum, factor, column);
                }
            }
            (a, b) = (a.add(ROWS), b.add(16 * COLUMNS));
        }
    }
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512; the caller's promise about `C`.
    unsafe { simd::gemm::store(Avx512::new(), sums, tile) };
}
