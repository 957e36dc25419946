//! Packed matmul with AVX-512, with and without VNNI: a panel times up to 12 rows.

#![expect(
    clippy::needless_range_loop,
    reason = "halves index an array of registers and parts of the block at once"
)]

mod blocks;
mod dots;
mod floats;
mod unpack;
mod words;

use crate::blocks::DType;
use crate::packed::TILE_WORDS;
use crate::packed::activations::{QuantizedBlock, block_scale};
use crate::packed::kernels::{PackedKernels, Task, run_stored_type};
use crate::packed::layout::{BLOCK, LANES, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, VECTOR};
use blocks::run_blocks;
use dots::{Bw, Vnni};
use floats::{Bf16, F16, F32, run_floats};
use std::arch::x86_64::*;

/// 12 rows: 12 int32 and 12 f32 accumulators of the 32 registers, the weights unpacked once for all of them.
const TILE_ROWS: usize = 12;

/// With dot products of 8-bit integers.
pub(crate) const VNNI: PackedKernels =
    PackedKernels { pack: words::pack, tile_rows: TILE_ROWS, quantize, matmul: matmul_vnni };

/// With the multiplications of AVX-512 BW.
pub(crate) const BW: PackedKernels =
    PackedKernels { pack: words::pack, tile_rows: TILE_ROWS, quantize, matmul: matmul_bw };

/// How far ahead of its use a weight is asked for, in bytes. A core gets no more than a few lines ahead by itself.
const AHEAD: usize = 4096;

/// Quantizes the first blocks of `rows` rows into a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize(x: &[f32], [rows, stride]: [usize; 2], tile: &mut [u32]) {
    for (b, words) in tile.chunks_exact_mut(rows * TILE_WORDS).enumerate() {
        for r in 0..rows {
            let (halves, _) = x[r * stride + b * BLOCK..][..BLOCK].as_chunks::<16>();
            quantize_block(&halves[0], &halves[1]).store(words, r);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize_block(low: &[f32; 16], high: &[f32; 16]) -> QuantizedBlock {
    // SAFETY: each array has 16 floats.
    let x = unsafe { [_mm512_loadu_ps(low.as_ptr()), _mm512_loadu_ps(high.as_ptr())] };
    let magnitude = |v| _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fff_ffff));
    let amax = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude(x[0]), magnitude(x[1])));
    let (d, inverse) = block_scale(amax);
    let mut block = QuantizedBlock { q: [0; BLOCK], d, sums: [0; 2] };
    if inverse == 0.0 {
        return block;
    }
    for half in 0..2 {
        let q = _mm512_cvtps_epi32(_mm512_mul_ps(x[half], _mm512_set1_ps(inverse)));
        block.sums[half] = _mm512_reduce_add_epi32(q);
        // SAFETY: 16 bytes at 0 or 16 of 32.
        unsafe { _mm_storeu_si128(block.q.as_mut_ptr().add(16 * half).cast(), _mm512_cvtsepi32_epi8(q)) };
    }
    block
}

/// Declares a matmul for the instructions of one kind of dot product.
macro_rules! matmul {
    ($name:ident, $dots:ident, $features:literal) => {
        /// # Safety
        /// The instructions; what [`Task::y`] says.
        #[target_feature(enable = $features)]
        unsafe fn $name(task: &Task<'_>) {
            // SAFETY: the caller's promises are those of each of these.
            unsafe { run_stored_type!(task, $dots) }
        }
    };
}

matmul!(matmul_vnni, Vnni, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni");
matmul!(matmul_bw, Bw, "avx512f,avx512bw,avx512dq,avx512vl");

/// Panels that are computed together. One is one stream of memory, and leaves room for many rows; with a few rows two share
/// the loads of the activations.
#[inline(always)]
fn panels_together(rows: usize) -> usize {
    if matches!(rows, 3 | 4) { 2 } else { 1 }
}

/// Calls `$tile` with the format and the numbers of panels and rows as constants.
macro_rules! with_tile_size {
    ($panels:expr, $rows:expr, $tile:ident::<$($format:ident),*>($($argument:expr),*)) => {
        match ($panels, $rows) {
            (2, 3) => $tile::<$($format,)* 2, 3>($($argument),*),
            (2, _) => $tile::<$($format,)* 2, 4>($($argument),*),
            (_, 1) => $tile::<$($format,)* 1, 1>($($argument),*),
            (_, 2) => $tile::<$($format,)* 1, 2>($($argument),*),
            (_, 3) => $tile::<$($format,)* 1, 3>($($argument),*),
            (_, 4) => $tile::<$($format,)* 1, 4>($($argument),*),
            (_, 5) => $tile::<$($format,)* 1, 5>($($argument),*),
            (_, 6) => $tile::<$($format,)* 1, 6>($($argument),*),
            (_, 7) => $tile::<$($format,)* 1, 7>($($argument),*),
            (_, 8) => $tile::<$($format,)* 1, 8>($($argument),*),
            (_, 9) => $tile::<$($format,)* 1, 9>($($argument),*),
            (_, 10) => $tile::<$($format,)* 1, 10>($($argument),*),
            (_, 11) => $tile::<$($format,)* 1, 11>($($argument),*),
            (_, _) => $tile::<$($format,)* 1, TILE_ROWS>($($argument),*),
        }
    };
}
use with_tile_size;

/// Where a tile's outputs go.
#[derive(Clone, Copy)]
struct Output {
    /// First row, first column.
    start: *mut f32,
    /// Floats from row to row.
    stride: usize,
    /// Columns up to the end of the matrix.
    columns: usize,
}

impl Output {
    /// # Safety
    /// AVX-512 F; `R` rows and the columns of `P` panels (as far as the matrix goes) may be written.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store<const P: usize, const R: usize>(self, acc: [[__m512; R]; P]) {
        for (p, rows) in acc.into_iter().enumerate() {
            let lanes = LANES.min(self.columns - p * LANES);
            let mask = ((1u32 << lanes) - 1) as __mmask16;
            for (r, v) in rows.into_iter().enumerate() {
                // SAFETY: the mask keeps to the matrix's columns, the rest is the caller's promise.
                unsafe { _mm512_mask_storeu_ps(self.start.add(r * self.stride + p * LANES), mask, v) };
            }
        }
    }
}

/// Asks for `bytes` bytes from `at` on in each panel.
#[inline]
fn prefetch<const P: usize>(at: *const u8, panel_bytes: usize, bytes: usize) {
    for p in 0..P {
        for offset in (0..bytes).step_by(VECTOR) {
            // SAFETY: a prefetch of any address has no effect but on the cache.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(p * panel_bytes + offset).cast()) };
        }
    }
}
