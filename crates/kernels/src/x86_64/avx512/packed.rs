//! Packed matmul with AVX-512 VNNI: a tile of panels x rows, int32 sums by `vpdpbusd`, rescaled per block.

#![expect(
    clippy::needless_range_loop,
    reason = "panels and rows index several arrays of accumulators at once"
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

/// 2 panels x 6 rows: 12 int32 and 12 f32 accumulators of the 32 registers.
pub(crate) const PACKED: PackedKernels = PackedKernels { tile_rows: 6, quantize, matmul };

/// How far ahead of its use a weight is asked for, in bytes. A core gets no more than a few lines ahead by itself.
const AHEAD: usize = 4096;

/// Quantizes `x [R, cols]` into a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize(x: &[f32], cols: usize, tile: &mut [u32]) {
    let rows = x.len() / cols;
    for (b, words) in tile.chunks_exact_mut(rows * TILE_WORDS).enumerate() {
        for r in 0..rows {
            let (halves, _) = x[r * cols..][b * BLOCK..][..BLOCK].as_chunks::<16>();
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

/// # Safety
/// AVX-512 F, BW, DQ, VL and VNNI; what [`Task::y`] says.
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

/// Calls `$tile::<F, P, R>` with the numbers of panels and rows as constants.
macro_rules! with_tile_size {
    ($panels:expr, $rows:expr, $tile:ident::<$format:ident>($($argument:expr),*)) => {
        match ($panels, $rows) {
            (1, 1) => $tile::<$format, 1, 1>($($argument),*),
            (1, 2) => $tile::<$format, 1, 2>($($argument),*),
            (1, 3) => $tile::<$format, 1, 3>($($argument),*),
            (1, 4) => $tile::<$format, 1, 4>($($argument),*),
            (1, 5) => $tile::<$format, 1, 5>($($argument),*),
            (1, _) => $tile::<$format, 1, 6>($($argument),*),
            (_, 1) => $tile::<$format, 2, 1>($($argument),*),
            (_, 2) => $tile::<$format, 2, 2>($($argument),*),
            (_, 3) => $tile::<$format, 2, 3>($($argument),*),
            (_, 4) => $tile::<$format, 2, 4>($($argument),*),
            (_, 5) => $tile::<$format, 2, 5>($($argument),*),
            (_, _) => $tile::<$format, 2, 6>($($argument),*),
        }
    };
}

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

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn run_blocks<F: Format>(task: &Task<'_>) {
    let columns = task.w.rows();
    let num_blocks = task.w.cols() / BLOCK;
    // With few rows one panel after the other is one stream of memory; with more, two share the activations.
    let together = if task.x.tiles().range(task.tiles.start).len() <= 2 { 1 } else { 2 };
    let mut panel = task.panels.start;
    while panel < task.panels.end {
        let panels = (task.panels.end - panel).min(together);
        let w = task.w.panel(panel).as_ptr();
        for tile in task.tiles.clone() {
            let rows = task.x.tiles().range(tile);
            let x = task.x.block_tile(tile).as_ptr();
            let first = panel * LANES;
            let first_pass = tile == task.tiles.start;
            // SAFETY: the row and column lie inside `y`.
            let start = unsafe { task.y.add(rows.start * columns + first) };
            let out = Output { start, stride: columns, columns: columns - first };
            // SAFETY: the panels and the tile have `num_blocks` blocks; the outputs belong to the task.
            unsafe { with_tile_size!(panels, rows.len(), block_tile::<F>(w, num_blocks, x, first_pass, out)) }
        }
        panel += panels;
    }
}

/// `P` panels times `R` rows; a first pass over the panels asks for their bytes ahead.
///
/// # Safety
/// AVX-512 F, BW, DQ, VL, VNNI. At `w` lie `P` panels of `num_blocks` blocks, at `x` a tile of `R` rows of as many;
/// `out` may be written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn block_tile<F: Format, const P: usize, const R: usize>(
    w: *const u8,
    num_blocks: usize,
    mut x: *const u32,
    first_pass: bool,
    out: Output,
) {
    let layout = F::LAYOUT;
    let panel_bytes = layout.panel_bytes(num_blocks);
    let mut acc = [[_mm512_setzero_ps(); R]; P];
    let mut unit = w;
    let mut left = num_blocks;
    while left > 0 {
        let here = left.min(layout.unit_blocks());
        for slot in 0..here {
            if first_pass {
                // A few lines with every block: more at once than a core can wait for would stall it.
                let share = layout.lines_per_block() * VECTOR;
                prefetch::<P>(unit.wrapping_add(AHEAD + slot * share), panel_bytes, share);
            }
            // SAFETY: `slot` is a block of this unit of each panel, and `x` stands at the same block.
            unsafe {
                block::<F, P, R>(unit, panel_bytes, slot, x, &mut acc);
                x = x.add(R * TILE_WORDS);
            }
        }
        left -= here;
        unit = unit.wrapping_add(layout.unit_bytes());
    }
    // SAFETY: the caller's promise.
    unsafe { out.store(acc) };
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

/// One block of every row and panel.
///
/// # Safety
/// As [`block_tile`], for block `slot` of the units at `unit` and the block of the tile at `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn block<F: Format, const P: usize, const R: usize>(
    unit: *const u8,
    panel_bytes: usize,
    slot: usize,
    x: *const u32,
    acc: &mut [[__m512; R]; P],
) {
    let layout = F::LAYOUT;
    let parts = layout.scales_per_block();
    let data = unit.wrapping_add(layout.head_bytes() + slot * layout.block_bytes());
    let word = |at: usize, r: usize| x.wrapping_add(at * R + r);
    for part in 0..parts {
        // SAFETY: all reads are inside the unit's block and head, or the tile's block.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); R]; P];
            if let Some(bits) = layout.offset_bits {
                let at = if parts == 1 { MINUS_SUM } else { MINUS_HALF_SUMS + part };
                for r in 0..R {
                    let minus_sum = _mm512_set1_epi32(word(at, r).cast::<i32>().read_unaligned());
                    let start = _mm512_sll_epi32(minus_sum, _mm_cvtsi32_si128(bits as i32));
                    (0..P).for_each(|p| sums[p][r] = start);
                }
            }
            if parts == 1 || part == 0 {
                two_groups::<F, P, R, 0>(data, panel_bytes, x, &mut sums);
                two_groups::<F, P, R, 1>(data, panel_bytes, x, &mut sums);
            }
            if parts == 1 || part == 1 {
                two_groups::<F, P, R, 2>(data, panel_bytes, x, &mut sums);
                two_groups::<F, P, R, 3>(data, panel_bytes, x, &mut sums);
            }
            for p in 0..P {
                let scale = scale::<F>(unit.wrapping_add(p * panel_bytes), slot, part);
                for r in 0..R {
                    let both = _mm512_mul_ps(scale, _mm512_set1_ps(word(SCALE, r).cast::<f32>().read()));
                    acc[p][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[p][r]), both, acc[p][r]);
                }
            }
        }
    }
    if layout.has_min() {
        for p in 0..P {
            // SAFETY: as above.
            unsafe {
                let min = minimum::<F>(unit.wrapping_add(p * panel_bytes), slot);
                for r in 0..R {
                    let sum = _mm512_set1_ps(word(SCALED_SUM, r).cast::<f32>().read());
                    acc[p][r] = _mm512_fmadd_ps(min, sum, acc[p][r]);
                }
            }
        }
    }
}

/// Adds groups `2 I` and `2 I + 1` to the sums.
///
/// # Safety
/// As [`block`], with the blocks' data at `data`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn two_groups<F: Format, const P: usize, const R: usize, const I: usize>(
    data: *const u8,
    panel_bytes: usize,
    x: *const u32,
    sums: &mut [[__m512i; R]; P],
) {
    // SAFETY: all reads are inside the block or the tile's block.
    unsafe {
        let weights: [[__m512i; 2]; P] =
            std::array::from_fn(|p| unpack::<F, I>(data.wrapping_add(p * panel_bytes)));
        for half in 0..2 {
            for r in 0..R {
                let four = _mm512_set1_epi32(x.add((2 * I + half) * R + r).cast::<i32>().read());
                for p in 0..P {
                    sums[p][r] = _mm512_dpbusd_epi32(sums[p][r], weights[p][half], four);
                }
            }
        }
    }
}

/// Groups `2 I` and `2 I + 1` of a block as unsigned bytes.
///
/// # Safety
/// A block of the format lies at `data`.
#[inline(always)]
unsafe fn unpack<F: Format, const I: usize>(data: *const u8) -> [__m512i; 2] {
    let layout = F::LAYOUT;
    // SAFETY: the vectors read are those of the layout, inside the block; the callers enable the instructions.
    unsafe {
        let vector = |i: usize| _mm512_loadu_si512(data.add(VECTOR * i).cast());
        if layout.bits == 8 {
            return [vector(2 * I), vector(2 * I + 1)];
        }
        let nibbles = _mm512_set1_epi8(15);
        let pair = vector(layout.upper_bytes() / VECTOR + I);
        let (low, high) = (pair, _mm512_srli_epi64::<4>(pair));
        match layout.bits {
            5 => {
                let upper = vector(0);
                let bit = _mm512_set1_epi8(16);
                let (first, second) = match I {
                    0 => (_mm512_slli_epi64::<4>(upper), _mm512_slli_epi64::<3>(upper)),
                    1 => (_mm512_slli_epi64::<2>(upper), _mm512_slli_epi64::<1>(upper)),
                    2 => (upper, _mm512_srli_epi64::<1>(upper)),
                    _ => (_mm512_srli_epi64::<2>(upper), _mm512_srli_epi64::<3>(upper)),
                };
                [join(low, first, nibbles, bit), join(high, second, nibbles, bit)]
            }
            6 => {
                let upper = vector(I / 2);
                let bits = _mm512_set1_epi8(48);
                let (first, second) = match I % 2 {
                    0 => (_mm512_slli_epi64::<4>(upper), _mm512_slli_epi64::<2>(upper)),
                    _ => (upper, _mm512_srli_epi64::<2>(upper)),
                };
                [join(low, first, nibbles, bits), join(high, second, nibbles, bits)]
            }
            _ => [_mm512_and_si512(low, nibbles), _mm512_and_si512(high, nibbles)],
        }
    }
}

/// `(low & low_mask) | (upper & upper_mask)`.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
unsafe fn join(low: __m512i, upper: __m512i, low_mask: __m512i, upper_mask: __m512i) -> __m512i {
    // SAFETY: the caller enables the instructions.
    unsafe {
        // Truth table of `(a & b) | c` with a = low, b = mask, c = what is already cut.
        _mm512_ternarylogic_epi64::<0xea>(low, low_mask, _mm512_and_si512(upper, upper_mask))
    }
}

/// The scales of part `part` of block `slot`, lane by lane.
///
/// # Safety
/// AVX-512 F; a unit of the format lies at `unit`.
#[inline(always)]
unsafe fn scale<F: Format>(unit: *const u8, slot: usize, part: usize) -> __m512 {
    // SAFETY: inside the head.
    unsafe {
        match F::LAYOUT.scales {
            Scales::Plain | Scales::WithMin => halves(unit, slot),
            Scales::SuperWithMin => {
                let bytes = _mm_loadu_si128(unit.add(BYTE_SCALES + LANES * slot).cast());
                _mm512_mul_ps(halves(unit, 0), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)))
            }
            Scales::Super16 => {
                let bytes = _mm_loadu_si128(unit.add(BYTE_SCALES + LANES * (2 * slot + part)).cast());
                _mm512_mul_ps(halves(unit, 0), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
            }
        }
    }
}

/// The minima of block `slot`, lane by lane.
///
/// # Safety
/// AVX-512 F, DQ; a unit of a format with minima lies at `unit`.
#[inline(always)]
unsafe fn minimum<F: Format>(unit: *const u8, slot: usize) -> __m512 {
    // SAFETY: inside the head.
    unsafe {
        if F::LAYOUT.scales == Scales::WithMin {
            return halves(unit, 2 + slot);
        }
        let bytes = _mm_loadu_si128(unit.add(BYTE_MINS + LANES * slot).cast());
        let min = _mm512_mul_ps(halves(unit, 1), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)));
        _mm512_xor_ps(min, _mm512_set1_ps(-0.0))
    }
}

/// The `at`-th row of f16 of a head.
///
/// # Safety
/// AVX-512 F; the head has that row.
#[inline(always)]
unsafe fn halves(unit: *const u8, at: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(unit.add(HALVES * at).cast())) }
}

/// A float format of weights.
trait Float {
    /// Bytes of a value.
    const BYTES: usize;

    /// 16 values as f32.
    ///
    /// # Safety
    /// AVX-512 F; 16 values lie at `at`.
    unsafe fn load(at: *const u8) -> __m512;
}

struct F32;
struct F16;
struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { halves(at, 0) }
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
}

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn run_floats<F: Float>(task: &Task<'_>) {
    let columns = task.w.rows();
    let cols = task.w.cols();
    let mut panel = task.panels.start;
    while panel < task.panels.end {
        let panels = (task.panels.end - panel).min(2);
        let w = task.w.panel(panel).as_ptr();
        for tile in task.tiles.clone() {
            let rows = task.x.tiles().range(tile);
            let x = task.x.float_tile(tile).as_ptr();
            let first = panel * LANES;
            // SAFETY: the row and column lie inside `y`.
            let start = unsafe { task.y.add(rows.start * columns + first) };
            let out = Output { start, stride: columns, columns: columns - first };
            let sizes = [cols, task.w.panel_bytes()];
            // SAFETY: the panels and the tile have `cols` values a row; the outputs belong to the task.
            unsafe { with_tile_size!(panels, rows.len(), float_tile::<F>(w, sizes, x, out)) }
        }
        panel += panels;
    }
}

/// `P` panels times `R` rows; `sizes` are values of a row and bytes of a panel.
///
/// # Safety
/// AVX-512 F. At `w` lie `P` panels of that size, at `x` a tile `[cols, R]`; `out` may be written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn float_tile<F: Float, const P: usize, const R: usize>(
    w: *const u8,
    [cols, panel_bytes]: [usize; 2],
    x: *const f32,
    out: Output,
) {
    let mut acc = [[_mm512_setzero_ps(); R]; P];
    for k in 0..cols {
        if R <= 2 {
            prefetch::<P>(w.wrapping_add(AHEAD + k * LANES * F::BYTES), panel_bytes, 1);
        }
        // SAFETY: inside the panels and the tile.
        unsafe {
            let weights: [__m512; P] =
                std::array::from_fn(|p| F::load(w.add(p * panel_bytes + k * LANES * F::BYTES)));
            for r in 0..R {
                let value = _mm512_set1_ps(x.add(k * R + r).read());
                for p in 0..P {
                    acc[p][r] = _mm512_fmadd_ps(weights[p], value, acc[p][r]);
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { out.store(acc) };
}
