//! Integer dot products of unsigned weights and int8 activations, four to a lane of 32 bits.
//!
//! `vpmaddubsw` adds two products in 16 bits and saturates. It never does here: activations lie in -127..=127, so two
//! products of a 4-bit weight reach 3,810, and 8 groups are added in 16 bits (30,480) before they are widened; two
//! groups of wider weights, at most 32,004 for 6 bits. 8-bit weights are turned into their magnitude (at most 128) and
//! their sign is moved to the activation: 32,512 for one group.

use crate::packed::layout::Format;
use std::arch::x86_64::*;

/// How sums of groups are added up. Every function needs the instructions that the implementation names.
pub(super) trait Dots {
    /// The sums before the first group, for exact sums that begin with `start`.
    unsafe fn begin<F: Format>(start: __m512i) -> __m512i;

    /// The weights of two groups as `add` takes them.
    unsafe fn prepare<F: Format>(weights: [__m512i; 2]) -> [__m512i; 2];

    /// Adds the products of two groups.
    unsafe fn add<F: Format>(sums: __m512i, weights: [__m512i; 2], x: [__m512i; 2]) -> __m512i;

    /// The exact sums, `start` included.
    unsafe fn finish<F: Format>(sums: __m512i, start: __m512i) -> __m512i;
}

/// AVX-512 VNNI.
pub(super) struct Vnni;

/// AVX-512 BW.
pub(super) struct Bw;

impl Dots for Vnni {
    #[inline(always)]
    unsafe fn begin<F: Format>(start: __m512i) -> __m512i {
        start
    }

    #[inline(always)]
    unsafe fn prepare<F: Format>(weights: [__m512i; 2]) -> [__m512i; 2] {
        weights
    }

    #[inline(always)]
    unsafe fn add<F: Format>(sums: __m512i, weights: [__m512i; 2], x: [__m512i; 2]) -> __m512i {
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sums, weights[0], x[0]), weights[1], x[1]) }
    }

    #[inline(always)]
    unsafe fn finish<F: Format>(sums: __m512i, _start: __m512i) -> __m512i {
        sums
    }
}

impl Dots for Bw {
    #[inline(always)]
    unsafe fn begin<F: Format>(start: __m512i) -> __m512i {
        match F::LAYOUT.bits {
            // Sums of 16 bits, and weights without an offset.
            // SAFETY: the caller has the instructions.
            4 | 8 => unsafe { _mm512_setzero_si512() },
            _ => start,
        }
    }

    #[inline(always)]
    unsafe fn prepare<F: Format>(weights: [__m512i; 2]) -> [__m512i; 2] {
        if F::LAYOUT.bits != 8 {
            return weights;
        }
        // SAFETY: the caller has the instructions.
        unsafe {
            let sign = _mm512_set1_epi8(-128);
            [_mm512_xor_si512(weights[0], sign), _mm512_xor_si512(weights[1], sign)]
        }
    }

    #[inline(always)]
    unsafe fn add<F: Format>(sums: __m512i, weights: [__m512i; 2], x: [__m512i; 2]) -> __m512i {
        // SAFETY: the caller has the instructions.
        unsafe {
            let ones = _mm512_set1_epi16(1);
            if F::LAYOUT.bits == 8 {
                let mut sums = sums;
                for g in 0..2 {
                    let negative = _mm512_movepi8_mask(weights[g]);
                    let x = _mm512_mask_sub_epi8(x[g], negative, _mm512_setzero_si512(), x[g]);
                    let products = _mm512_maddubs_epi16(_mm512_abs_epi8(weights[g]), x);
                    sums = _mm512_add_epi32(sums, _mm512_madd_epi16(products, ones));
                }
                return sums;
            }
            let low = _mm512_maddubs_epi16(weights[0], x[0]);
            let pair = _mm512_add_epi16(low, _mm512_maddubs_epi16(weights[1], x[1]));
            if F::LAYOUT.bits == 4 {
                _mm512_add_epi16(sums, pair)
            } else {
                _mm512_add_epi32(sums, _mm512_madd_epi16(pair, ones))
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<F: Format>(sums: __m512i, start: __m512i) -> __m512i {
        if F::LAYOUT.bits != 4 {
            return sums;
        }
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_add_epi32(_mm512_madd_epi16(sums, _mm512_set1_epi16(1)), start) }
    }
}
