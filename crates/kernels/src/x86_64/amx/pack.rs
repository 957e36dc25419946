//! Packing bf16 pairs into tiles of 16 rows of 16 words: panels of 16 lanes, one tile for every 32 values of depth.
//!
//! A tile of `A` has a row for each lane, a tile of `B` a row for each word of depth. A panel of 32 lanes is two panels
//! of 16, one after the other.

use super::super::avx512::vector::Avx512;
use super::super::avx512_bf16::pack::{Bf16, Pairs16};
use crate::ops::gemm::PackSource;
use crate::simd::Simd;
use crate::simd::pack::{Packer, pack};
use std::arch::x86_64::*;

/// Lanes of a tile, and words of depth.
const SIDE: usize = 16;
/// Values of depth in a tile.
const DEPTH: usize = 2 * SIDE;

/// See [`PackFn`](crate::ops::gemm::PackFn): the lanes of the source rounded up to 16, then zeros up to `width`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn pack_b(to: &mut [u32], width: usize, source: &PackSource) {
    let words = to.len() / source.lanes.next_multiple_of(width);
    let (used, unused) = to.split_at_mut(source.lanes.next_multiple_of(SIDE) * words);
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512 BF16; the caller's promise about the source.
    unsafe { pack(Pairs16(Bf16::new()), used, SIDE, source) };
    unused.fill(0);
}

/// See [`PackFn`](crate::ops::gemm::PackFn).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn pack_a(to: &mut [u32], width: usize, source: &PackSource) {
    let words = to.len() / source.lanes.next_multiple_of(width);
    for (panel, to) in to.chunks_exact_mut(SIDE * words).enumerate() {
        for (step, to) in to.chunks_exact_mut(SIDE * SIDE).enumerate() {
            let (lane, k) = (panel * SIDE, step * DEPTH);
            let whole = lane + SIDE <= source.lanes && k + DEPTH <= source.depth;
            // SAFETY: the caller's promise about the source; the fast ways are taken where it has the whole tile.
            unsafe {
                if whole && source.k_stride == 1 {
                    convert_lanes(to, source.data.add(lane * source.lane_stride + k), source.lane_stride);
                } else if whole && source.lane_stride == 1 {
                    transpose_lanes(to, source.data.add(lane + k * source.k_stride), source.k_stride);
                } else {
                    single_values(to, source, lane, k);
                }
            }
        }
    }
}

/// A tile whose depth is contiguous in the source.
///
/// # Safety
/// 16 rows of 32 values, `lane_stride` apart, can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn convert_lanes(to: &mut [u32], from: *const f32, lane_stride: usize) {
    for (lane, to) in to.chunks_exact_mut(SIDE).enumerate() {
        // SAFETY: the caller's promise; the row of the tile has 16 words.
        unsafe {
            let from = from.add(lane * lane_stride);
            let values = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(SIDE)), _mm512_loadu_ps(from));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), std::mem::transmute::<__m512bh, __m512i>(values));
        }
    }
}

/// A tile whose lanes are contiguous in the source.
///
/// # Safety
/// 32 rows of 16 values, `k_stride` apart, can be read; `to` has 256 words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn transpose_lanes(to: &mut [u32], from: *const f32, k_stride: usize) {
    let mut rows = [0u32; SIDE * SIDE];
    assert!(to.len() == rows.len());
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512 BF16; the caller's promise about the source; both
    // squares have 16 rows of 16 words.
    unsafe {
        for (word, row) in rows.chunks_exact_mut(SIDE).enumerate() {
            Pairs16(Bf16::new()).row(row.as_mut_ptr(), from.add(2 * word * k_stride), k_stride);
        }
        Avx512::new().transpose_ptr(rows.as_ptr().cast(), SIDE, to.as_mut_ptr().cast(), SIDE);
    }
}

/// A tile that is not whole, or of a source where nothing is contiguous.
///
/// # Safety
/// All elements of the source can be read.
unsafe fn single_values(to: &mut [u32], source: &PackSource, lane: usize, k: usize) {
    let value = |lane: usize, k: usize| match lane < source.lanes && k < source.depth {
        // SAFETY: this element lies inside the source.
        true => unsafe { *source.data.add(lane * source.lane_stride + k * source.k_stride) },
        false => 0.0,
    };
    for (i, word) in to.iter_mut().enumerate() {
        let (lane, k) = (lane + i / SIDE, k + 2 * (i % SIDE));
        let pair = [value(lane, k), value(lane, k + 1)].map(|x| u32::from(half::bf16::from_f32(x).to_bits()));
        *word = pair[0] | pair[1] << 16;
    }
}
