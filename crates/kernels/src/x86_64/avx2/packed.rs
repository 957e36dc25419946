//! Packed matmul with AVX2, with and without VNNI: half panels of 8 lanes.

mod blocks;
mod dots;
mod floats;
mod unpack;
mod words;

use crate::blocks::DType;
use crate::packed::TILE_WORDS;
use crate::packed::activations::{QuantizedBlock, block_scale};
use crate::packed::kernels::{PackedKernels, Task, run_stored_type};
use crate::packed::layout::{BLOCK, LANES, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use blocks::run_blocks;
use dots::{Maddubs, Vnni};
use floats::{Bf16, F16, F32, run_floats};
use std::arch::x86_64::*;

/// Rows of a tile: 4 int32 and 4 f32 accumulators of the 16 registers.
const TILE_ROWS: usize = 4;

/// With the multiplications of AVX2.
pub(crate) const PLAIN: PackedKernels =
    PackedKernels { pack: words::pack, tile_rows: TILE_ROWS, quantize, matmul: matmul_plain };

/// With dot products of 8-bit integers.
pub(crate) const VNNI: PackedKernels =
    PackedKernels { pack: words::pack, tile_rows: TILE_ROWS, quantize, matmul: matmul_vnni };

/// Lanes of half a panel.
const HALF: usize = LANES / 2;
/// How far ahead of its use a weight is asked for, in bytes.
const AHEAD: usize = 4096;

/// Quantizes the first blocks of `rows` rows into a tile.
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize(x: &[f32], [rows, stride]: [usize; 2], tile: &mut [u32]) {
    for (b, words) in tile.chunks_exact_mut(rows * TILE_WORDS).enumerate() {
        for r in 0..rows {
            quantize_block(&x[r * stride + b * BLOCK..][..BLOCK]).store(words, r);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize_block(x: &[f32]) -> QuantizedBlock {
    let (eights, _) = x.as_chunks::<8>();
    let amax = (0..8).map(|i| eights.iter().map(|e| e[i].to_bits() & 0x7fff_ffff).max().unwrap_or(0)).max();
    let (d, inverse) = block_scale(amax.unwrap_or(0));
    let mut block = QuantizedBlock { q: [0; BLOCK], d, sums: [0; 2] };
    if inverse == 0.0 {
        return block;
    }
    let inverse = _mm256_set1_ps(inverse);
    for (i, eight) in eights.iter().enumerate() {
        let mut q = [0i32; 8];
        // SAFETY: both arrays have 8 elements.
        unsafe {
            let rounded = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(eight.as_ptr()), inverse));
            _mm256_storeu_si256(q.as_mut_ptr().cast(), rounded);
        }
        block.sums[i / 2] += q.iter().sum::<i32>();
        for (to, q) in block.q[8 * i..].iter_mut().zip(q) {
            *to = q as i8;
        }
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

matmul!(matmul_plain, Maddubs, "avx2,fma,f16c");
matmul!(matmul_vnni, Vnni, "avx2,fma,f16c,avxvnni");

/// One panel times one tile: where both lie and where the outputs go.
#[derive(Clone, Copy)]
struct Place<X> {
    w: *const u8,
    x: *const X,
    /// Blocks (or values, for floats) of a row.
    len: usize,
    /// First row, first column of the panel.
    out: *mut f32,
    /// Floats from row to row.
    stride: usize,
    /// Columns up to the end of the matrix.
    columns: usize,
    /// Ask for the panel's bytes ahead.
    prefetch: bool,
}

impl<X> Place<X> {
    /// A panel and a tile of a task: `len` as the field, `x` where the tile starts. Inlined, because a place that is
    /// passed by reference costs the inner loops 8% of their speed.
    ///
    /// # Safety
    /// The task has this panel and tile.
    #[inline(always)]
    unsafe fn new(task: &Task<'_>, [panel, tile]: [usize; 2], len: usize, x: *const X) -> Self {
        let stride = task.w.rows();
        let first_row = task.x.tiles().range(tile).start;
        // SAFETY: the row and column lie inside `y`.
        let out = unsafe { task.y.add(first_row * stride + panel * LANES) };
        let (columns, prefetch) = (stride - panel * LANES, tile == task.tiles.start);
        Self { w: task.w.panel(panel).as_ptr(), x, len, out, stride, columns, prefetch }
    }
}

/// Stores `H` half panels from half `first` on.
///
/// # Safety
/// AVX2; `R` rows of these columns (as far as the matrix goes) may be written.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn store<X, const H: usize, const R: usize>(place: Place<X>, first: usize, acc: [[__m256; R]; H]) {
    for (h, rows) in acc.into_iter().enumerate() {
        let column = (first + h) * HALF;
        let lanes = HALF.min(place.columns.saturating_sub(column));
        for (r, v) in rows.into_iter().enumerate() {
            let mut values = [0.0f32; HALF];
            // SAFETY: 8 floats; then only columns of the matrix, in rows that the caller gives.
            unsafe {
                _mm256_storeu_ps(values.as_mut_ptr(), v);
                let to = place.out.wrapping_add(r * place.stride + column);
                std::ptr::copy_nonoverlapping(values.as_ptr(), to, lanes);
            }
        }
    }
}
