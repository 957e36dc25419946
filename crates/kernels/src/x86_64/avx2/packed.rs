//! Packed matmul with AVX2: half panels of 8 lanes, int8 products by `vpmaddubsw`.
//!
//! `vpmaddubsw` adds two products in 16 bits and saturates. It never does here: activations lie in -127..=127, so two
//! products of an unsigned 4-bit weight reach 3,810, and 8 groups are added in 16 bits (30,480) before they are widened;
//! 4 groups of 5-bit weights (31,496), 2 of 6 bits (32,004). 8-bit weights are turned into their magnitude (at most
//! 128) and their sign is moved to the activation: 32,512 for one group.

#![expect(
    clippy::needless_range_loop,
    reason = "halves and rows index several arrays of accumulators at once"
)]

use crate::blocks::DType;
use crate::packed::TILE_WORDS;
use crate::packed::activations::{
    MINUS_HALF_SUMS, MINUS_SUM, QuantizedBlock, SCALE, SCALED_SUM, block_scale,
};
use crate::packed::kernels::{PackedKernels, Task};
use crate::packed::layout::{
    BLOCK, BYTE_MINS, BYTE_SCALES, Format, HALVES, LANES, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
    Scales, VECTOR,
};
use std::arch::x86_64::*;

pub(crate) const PACKED: PackedKernels = PackedKernels { tile_rows: 4, quantize, matmul };

/// Lanes of half a panel.
const HALF: usize = LANES / 2;
/// How far ahead of its use a weight is asked for, in bytes.
const AHEAD: usize = 4096;

/// Quantizes `x [R, cols]` into a tile.
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize(x: &[f32], cols: usize, tile: &mut [u32]) {
    let rows = x.len() / cols;
    for (b, words) in tile.chunks_exact_mut(rows * TILE_WORDS).enumerate() {
        for r in 0..rows {
            quantize_block(&x[r * cols..][b * BLOCK..][..BLOCK]).store(words, r);
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

/// # Safety
/// AVX2, FMA and F16C; what [`Task::y`] says.
unsafe fn matmul(task: &Task<'_>) {
    // SAFETY: the caller's promises are those of each of these.
    unsafe {
        match task.w.dtype() {
            DType::F32 => run_floats::<F32>(task),
            DType::F16 => run_floats::<F16>(task),
            DType::BF16 => run_floats::<Bf16>(task),
            DType::Q8_0 => run_blocks::<Q8_0>(task),
            DType::Q5_0 => run_blocks::<Q5_0>(task),
            DType::Q5_1 => run_blocks::<Q5_1>(task),
            DType::Q4_0 => run_blocks::<Q4_0>(task),
            DType::Q4_1 => run_blocks::<Q4_1>(task),
            DType::Q6_K => run_blocks::<Q6_K>(task),
            DType::Q5_K => run_blocks::<Q5_K>(task),
            DType::Q4_K => run_blocks::<Q4_K>(task),
        }
    }
}

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

/// Calls `run` with every panel and tile of a task.
///
/// # Safety
/// What [`Task::y`] says.
unsafe fn for_each_place<X>(
    task: &Task<'_>,
    len: usize,
    tile_start: impl Fn(usize) -> *const X,
    run: impl Fn(Place<X>, usize),
) {
    let stride = task.w.rows();
    for panel in task.panels.clone() {
        let w = task.w.panel(panel).as_ptr();
        for tile in task.tiles.clone() {
            let rows = task.x.tiles().range(tile);
            // SAFETY: the row and column lie inside `y`.
            let out = unsafe { task.y.add(rows.start * stride + panel * LANES) };
            let (columns, prefetch) = (stride - panel * LANES, tile == task.tiles.start);
            run(Place { w, x: tile_start(tile), len, out, stride, columns, prefetch }, rows.len());
        }
    }
}

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_blocks<F: Format>(task: &Task<'_>) {
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

/// Groups `2 I` and `2 I + 1` of half a block: unsigned bytes, or signed ones of 8-bit formats.
///
/// # Safety
/// AVX2; a block of the format lies at `data`.
#[inline(always)]
unsafe fn unpack<F: Format, const I: usize>(data: *const u8, half: usize) -> [__m256i; 2] {
    let layout = F::LAYOUT;
    // SAFETY: the vectors read are those of the layout, inside the block; the callers enable the instructions.
    unsafe {
        let vector = |i: usize| _mm256_loadu_si256(data.add(VECTOR * i + VECTOR / 2 * half).cast());
        if layout.bits == 8 {
            let sign = _mm256_set1_epi8(-128);
            return [_mm256_xor_si256(vector(2 * I), sign), _mm256_xor_si256(vector(2 * I + 1), sign)];
        }
        let nibbles = _mm256_set1_epi8(15);
        let pair = vector(layout.upper_bytes() / VECTOR + I);
        let low = _mm256_and_si256(pair, nibbles);
        let high = _mm256_and_si256(_mm256_srli_epi64::<4>(pair), nibbles);
        let join = |low, upper, mask| _mm256_or_si256(low, _mm256_and_si256(upper, _mm256_set1_epi8(mask)));
        match layout.bits {
            5 => {
                let upper = vector(0);
                let (first, second) = match I {
                    0 => (_mm256_slli_epi64::<4>(upper), _mm256_slli_epi64::<3>(upper)),
                    1 => (_mm256_slli_epi64::<2>(upper), _mm256_slli_epi64::<1>(upper)),
                    2 => (upper, _mm256_srli_epi64::<1>(upper)),
                    _ => (_mm256_srli_epi64::<2>(upper), _mm256_srli_epi64::<3>(upper)),
                };
                [join(low, first, 16), join(high, second, 16)]
            }
            6 => {
                let upper = vector(I / 2);
                let (first, second) = match I % 2 {
                    0 => (_mm256_slli_epi64::<4>(upper), _mm256_slli_epi64::<2>(upper)),
                    _ => (upper, _mm256_srli_epi64::<2>(upper)),
                };
                [join(low, first, 48), join(high, second, 48)]
            }
            _ => [low, high],
        }
    }
}

/// The scales of part `part` of block `slot`, 8 lanes of a half.
///
/// # Safety
/// AVX2, F16C; a unit of the format lies at `unit`.
#[inline(always)]
unsafe fn scale<F: Format>(unit: *const u8, slot: usize, part: usize, half: usize) -> __m256 {
    // SAFETY: inside the head.
    unsafe {
        match F::LAYOUT.scales {
            Scales::Plain | Scales::WithMin => halves(unit, slot, half),
            Scales::SuperWithMin => {
                let bytes = _mm_loadl_epi64(unit.add(BYTE_SCALES + LANES * slot + HALF * half).cast());
                _mm256_mul_ps(halves(unit, 0, half), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)))
            }
            Scales::Super16 => {
                let at = BYTE_SCALES + LANES * (2 * slot + part) + HALF * half;
                let bytes = _mm_loadl_epi64(unit.add(at).cast());
                _mm256_mul_ps(halves(unit, 0, half), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)))
            }
        }
    }
}

/// The minima of block `slot`, 8 lanes of a half.
///
/// # Safety
/// AVX2, F16C; a unit of a format with minima lies at `unit`.
#[inline(always)]
unsafe fn minimum<F: Format>(unit: *const u8, slot: usize, half: usize) -> __m256 {
    // SAFETY: inside the head.
    unsafe {
        if F::LAYOUT.scales == Scales::WithMin {
            return halves(unit, 2 + slot, half);
        }
        let bytes = _mm_loadl_epi64(unit.add(BYTE_MINS + LANES * slot + HALF * half).cast());
        let min = _mm256_mul_ps(halves(unit, 1, half), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)));
        _mm256_xor_ps(min, _mm256_set1_ps(-0.0))
    }
}

/// Half of the `at`-th row of f16 of a head.
///
/// # Safety
/// F16C; the head has that row.
#[inline(always)]
unsafe fn halves(unit: *const u8, at: usize, half: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(unit.add(HALVES * at + HALVES / 2 * half).cast())) }
}

/// A float format of weights.
trait Float {
    /// Bytes of a value.
    const BYTES: usize;

    /// 8 values as f32.
    ///
    /// # Safety
    /// AVX2, F16C; 8 values lie at `at`.
    unsafe fn load(at: *const u8) -> __m256;
}

struct F32;
struct F16;
struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { halves(at, 0, 0) }
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }
}

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_floats<F: Float>(task: &Task<'_>) {
    // SAFETY: the places are those of the task.
    unsafe {
        let start = |tile| task.x.float_tile(tile).as_ptr();
        for_each_place(task, task.w.cols(), start, |place, rows| match rows {
            1 => float_tile::<F, 1>(place),
            2 => float_tile::<F, 2>(place),
            3 => float_tile::<F, 3>(place),
            _ => float_tile::<F, 4>(place),
        });
    }
}

/// A panel times `R` rows.
///
/// # Safety
/// AVX2, FMA, F16C; `place` has a panel and a tile `[len, R]`, and outputs that may be written.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float_tile<F: Float, const R: usize>(place: Place<f32>) {
    let mut acc = [[_mm256_setzero_ps(); R]; 2];
    for k in 0..place.len {
        // SAFETY: inside the panel and the tile.
        unsafe {
            let at = place.w.add(k * LANES * F::BYTES);
            if place.prefetch {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
            }
            let weights = [F::load(at), F::load(at.add(HALF * F::BYTES))];
            for r in 0..R {
                let value = _mm256_set1_ps(place.x.add(k * R + r).read());
                for h in 0..2 {
                    acc[h][r] = _mm256_fmadd_ps(weights[h], value, acc[h][r]);
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { store(place, 0, acc) };
}
