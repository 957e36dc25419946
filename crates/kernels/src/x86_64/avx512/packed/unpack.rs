//! How a panel of a block format becomes bytes, scales and minima in AVX-512 registers.

use crate::packed::layout::{BYTE_MINS, BYTE_SCALES, Format, HALVES, LANES, Scales, VECTOR};
use std::arch::x86_64::*;

/// Groups `2 I` and `2 I + 1` of a block as unsigned bytes.
///
/// # Safety
/// A block of the format lies at `data`.
#[inline(always)]
pub(super) unsafe fn unpack<F: Format, const I: usize>(data: *const u8) -> [__m512i; 2] {
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
pub(super) unsafe fn scale<F: Format>(unit: *const u8, slot: usize, part: usize) -> __m512 {
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
pub(super) unsafe fn minimum<F: Format>(unit: *const u8, slot: usize) -> __m512 {
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
pub(super) unsafe fn halves(unit: *const u8, at: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(unit.add(HALVES * at).cast())) }
}
