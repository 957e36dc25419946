//! A word of each lane of a panel in an AVX-512 register, for packing.

use crate::blocks::DType;
use crate::packed::interleave::{Words, pack_with};
use std::arch::x86_64::*;

/// Packs up to 16 rows into a zeroed panel.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn pack(dtype: DType, rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    // SAFETY: this function has the instructions.
    unsafe { pack_with::<Lanes>(dtype, rows, row_bytes, panel) }
}

/// 16 words.
#[derive(Clone, Copy)]
struct Lanes(__m512i);

impl Words for Lanes {
    #[inline(always)]
    unsafe fn load(first: *const u8, row_bytes: usize) -> [Self; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); 4];
            for (l, four) in rows.iter_mut().enumerate() {
                // Row `l` and the fourth, eighth and twelfth after it: what is transposed within 128 bits is in order.
                let row = first.add(l * row_bytes);
                let low = _mm512_castsi128_si512(_mm_loadu_si128(row.cast()));
                let low = _mm512_inserti32x4::<1>(low, _mm_loadu_si128(row.add(4 * row_bytes).cast()));
                let low = _mm512_inserti32x4::<2>(low, _mm_loadu_si128(row.add(8 * row_bytes).cast()));
                *four = _mm512_inserti32x4::<3>(low, _mm_loadu_si128(row.add(12 * row_bytes).cast()));
            }
            let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
            let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
            [
                Self(_mm512_unpacklo_epi64(low[0], low[1])),
                Self(_mm512_unpackhi_epi64(low[0], low[1])),
                Self(_mm512_unpacklo_epi64(high[0], high[1])),
                Self(_mm512_unpackhi_epi64(high[0], high[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn store_halves(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(self.0)) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            for (c, bytes) in [self, self.shr(8), self.shr(16), self.shr(24)].into_iter().enumerate() {
                _mm_storeu_si128(to.add(16 * c).cast(), _mm512_cvtepi32_epi8(bytes.0));
            }
        }
    }

    #[inline(always)]
    unsafe fn and(self, mask: u32) -> Self {
        // SAFETY: the caller has the instructions.
        Self(unsafe { _mm512_and_si512(self.0, _mm512_set1_epi32(mask as i32)) })
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the caller has the instructions.
        Self(unsafe { _mm512_or_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn xor(self, mask: u32) -> Self {
        // SAFETY: the caller has the instructions.
        Self(unsafe { _mm512_xor_si512(self.0, _mm512_set1_epi32(mask as i32)) })
    }

    #[inline(always)]
    unsafe fn shl(self, bits: u32) -> Self {
        // SAFETY: the caller has the instructions.
        Self(unsafe { _mm512_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }

    #[inline(always)]
    unsafe fn shr(self, bits: u32) -> Self {
        // SAFETY: the caller has the instructions.
        Self(unsafe { _mm512_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }
}
