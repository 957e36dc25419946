//! How half a panel of a block format becomes bytes, scales and minima in AVX2 registers.

use super::HALF;
use crate::packed::layout::{BYTE_MINS, BYTE_SCALES, Format, HALVES, LANES, Scales, VECTOR};
use std::arch::x86_64::*;

/// Groups `2 I` and `2 I + 1` of half a block as unsigned bytes.
///
/// # Safety
/// AVX2; a block of the format lies at `data`.
#[inline(always)]
pub(super) unsafe fn unpack<F: Format, const I: usize>(data: *const u8, half: usize) -> [__m256i; 2] {
    let layout = F::LAYOUT;
    // SAFETY: the vectors read are those of the layout, inside the block; the callers enable the instructions.
    unsafe {
        let vector = |i: usize| _mm256_loadu_si256(data.add(VECTOR * i + VECTOR / 2 * half).cast());
        if layout.bits == 8 {
            return [vector(2 * I), vector(2 * I + 1)];
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
pub(super) unsafe fn scale<F: Format>(unit: *const u8, slot: usize, part: usize, half: usize) -> __m256 {
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
pub(super) unsafe fn minimum<F: Format>(unit: *const u8, slot: usize, half: usize) -> __m256 {
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
pub(super) unsafe fn halves(unit: *const u8, at: usize, half: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(unit.add(HALVES * at + HALVES / 2 * half).cast())) }
}
