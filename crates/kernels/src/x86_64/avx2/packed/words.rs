//! A word of each lane of a panel in two AVX2 registers, for packing.

use crate::blocks::DType;
use crate::packed::interleave::{Words, pack_with};
use std::arch::x86_64::*;

/// Packs up to 16 rows into a zeroed panel.
#[target_feature(enable = "avx2")]
pub(super) fn pack(dtype: DType, rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    // SAFETY: this function has the instructions.
    unsafe { pack_with::<Lanes>(dtype, rows, row_bytes, panel) }
}

/// 16 words, the first 8 lanes in the first register.
#[derive(Clone, Copy)]
struct Lanes([__m256i; 2]);

/// Four words of 8 rows.
///
/// # Safety
/// AVX2; 16 bytes lie at `first` and at 7 more rows.
#[inline(always)]
unsafe fn load_half(first: *const u8, row_bytes: usize) -> [__m256i; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [_mm256_setzero_si256(); 4];
        for (l, pair) in rows.iter_mut().enumerate() {
            // Row `l` and the fourth after it: what is transposed within 128 bits is in order.
            let row = first.add(l * row_bytes);
            let low = _mm256_castsi128_si256(_mm_loadu_si128(row.cast()));
            *pair = _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(row.add(4 * row_bytes).cast()));
        }
        let low = [_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpacklo_epi32(rows[2], rows[3])];
        let high = [_mm256_unpackhi_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[2], rows[3])];
        [
            _mm256_unpacklo_epi64(low[0], low[1]),
            _mm256_unpackhi_epi64(low[0], low[1]),
            _mm256_unpacklo_epi64(high[0], high[1]),
            _mm256_unpackhi_epi64(high[0], high[1]),
        ]
    }
}

impl Words for Lanes {
    #[inline(always)]
    unsafe fn load(first: *const u8, row_bytes: usize) -> [Self; 4] {
        // SAFETY: the caller's promise.
        let halves = unsafe { [load_half(first, row_bytes), load_half(first.add(8 * row_bytes), row_bytes)] };
        let [a, b] = halves;
        [Self([a[0], b[0]]), Self([a[1], b[1]]), Self([a[2], b[2]]), Self([a[3], b[3]])]
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_si256(to.cast(), self.0[0]);
            _mm256_storeu_si256(to.add(32).cast(), self.0[1]);
        }
    }

    #[inline(always)]
    unsafe fn store_halves(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b] = self.and(0xffff).0;
            // Lanes 0..4, 8..12, 4..8, 12..16.
            let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(a, b));
            _mm256_storeu_si256(to.cast(), halves);
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            // Within 128 bits: the lowest bytes of four lanes, then their second bytes, and so on.
            let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
            ));
            let [a, b] = self.0;
            let [a, b] = [_mm256_shuffle_epi8(a, order), _mm256_shuffle_epi8(b, order)];
            // Of each byte, lanes 0..8, then lanes 8..16.
            let pairs = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let [a, b] = [_mm256_permutevar8x32_epi32(a, pairs), _mm256_permutevar8x32_epi32(b, pairs)];
            let (even, odd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
            _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(even, odd));
            _mm256_storeu_si256(to.add(32).cast(), _mm256_permute2x128_si256::<0x31>(even, odd));
        }
    }

    #[inline(always)]
    unsafe fn and(self, mask: u32) -> Self {
        let [a, b] = self.0;
        // SAFETY: the caller has the instructions.
        unsafe {
            let with = _mm256_set1_epi32(mask as i32);
            Self([_mm256_and_si256(a, with), _mm256_and_si256(b, with)])
        }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        let ([a, b], [c, d]) = (self.0, other.0);
        // SAFETY: the caller has the instructions.
        Self(unsafe { [_mm256_or_si256(a, c), _mm256_or_si256(b, d)] })
    }

    #[inline(always)]
    unsafe fn xor(self, mask: u32) -> Self {
        let [a, b] = self.0;
        // SAFETY: the caller has the instructions.
        unsafe {
            let with = _mm256_set1_epi32(mask as i32);
            Self([_mm256_xor_si256(a, with), _mm256_xor_si256(b, with)])
        }
    }

    #[inline(always)]
    unsafe fn shl(self, bits: u32) -> Self {
        let [a, b] = self.0;
        // SAFETY: the caller has the instructions.
        unsafe {
            let with = _mm_cvtsi32_si128(bits as i32);
            Self([_mm256_sll_epi32(a, with), _mm256_sll_epi32(b, with)])
        }
    }

    #[inline(always)]
    unsafe fn shr(self, bits: u32) -> Self {
        let [a, b] = self.0;
        // SAFETY: the caller has the instructions.
        unsafe {
            let with = _mm_cvtsi32_si128(bits as i32);
            Self([_mm256_srl_epi32(a, with), _mm256_srl_epi32(b, with)])
        }
    }
}
