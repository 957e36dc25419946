//! Transposition of small squares of 32-bit values in registers.

use std::arch::x86_64::*;

/// Row `i`, lane `j` becomes row `j`, lane `i`.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn transpose_8(rows: [__m256; 8]) -> [__m256; 8] {
    let zero = _mm256_setzero_ps();
    // Within each 128-bit half, 4 x 4 squares: `quads[4 g + j]` holds lane `j` of rows `4 g .. 4 g + 4`.
    let mut quads = [zero; 8];
    for g in 0..2 {
        let [a, b, c, d] = [rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]];
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        quads[4 * g] = _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low);
        quads[4 * g + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low);
        quads[4 * g + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high);
        quads[4 * g + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high);
    }
    let mut columns = [zero; 8];
    for j in 0..4 {
        columns[j] = _mm256_permute2f128_ps::<0x20>(quads[j], quads[4 + j]);
        columns[4 + j] = _mm256_permute2f128_ps::<0x31>(quads[j], quads[4 + j]);
    }
    columns
}

/// Row `i`, lane `j` becomes row `j`, lane `i`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose_16(rows: [__m512; 16]) -> [__m512; 16] {
    let zero = _mm512_setzero_ps();
    // Within each 128-bit quarter, 4 x 4 squares: `quads[4 g + j]` holds lane `4 q + j` of rows `4 g .. 4 g + 4` in
    // its quarter `q`.
    let mut quads = [zero; 16];
    for g in 0..4 {
        let [a, b, c, d] = [rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        quads[4 * g] = _mm512_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low);
        quads[4 * g + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low);
        quads[4 * g + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high);
        quads[4 * g + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high);
    }
    // Column `4 q + j` gathers quarter `q` of `quads[j]`, `quads[4 + j]`, `quads[8 + j]`, `quads[12 + j]`.
    let mut columns = [zero; 16];
    for j in 0..4 {
        let [a, b, c, d] = [quads[j], quads[4 + j], quads[8 + j], quads[12 + j]];
        let (ab_low, ab_high) =
            (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
        let (cd_low, cd_high) =
            (_mm512_shuffle_f32x4::<0b01_00_01_00>(c, d), _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d));
        columns[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_low, cd_low);
        columns[4 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_low, cd_low);
        columns[8 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_high, cd_high);
        columns[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_high, cd_high);
    }
    columns
}

/// A square of 8 rows in memory: halves of rows are paired while they are loaded, so that the rest stays within halves.
///
/// # Safety
/// 8 rows of 8 elements can be read from `from` and written to `to`, the rows as far apart as the strides say.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn transpose_8_ptr(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    for half in 0..2 {
        let mut rows = [_mm256_setzero_ps(); 4];
        for (i, row) in rows.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.add(i * from_stride + 4 * half);
                let low = _mm256_castps128_ps256(_mm_loadu_ps(from));
                *row = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add(4 * from_stride)));
            }
        }
        let [a, b, c, d] = rows;
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let columns = [
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ];
        for (j, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(to.add((4 * half + j) * to_stride), column) };
        }
    }
}

/// A square of 16 rows in memory: quarters of rows are joined while they are loaded, so that the rest stays within
/// quarters.
///
/// # Safety
/// 16 rows of 16 elements can be read from `from` and written to `to`, the rows as far apart as the strides say.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn transpose_16_ptr(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    for quarter in 0..4 {
        let mut rows = [_mm512_setzero_ps(); 4];
        for (i, row) in rows.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.add(i * from_stride + 4 * quarter);
                let x = _mm512_castps128_ps512(_mm_loadu_ps(from));
                let x = _mm512_insertf32x4::<1>(x, _mm_loadu_ps(from.add(4 * from_stride)));
                let x = _mm512_insertf32x4::<2>(x, _mm_loadu_ps(from.add(8 * from_stride)));
                *row = _mm512_insertf32x4::<3>(x, _mm_loadu_ps(from.add(12 * from_stride)));
            }
        }
        let [a, b, c, d] = rows;
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let columns = [
            _mm512_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low),
            _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ];
        for (j, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(to.add((4 * quarter + j) * to_stride), column) };
        }
    }
}
