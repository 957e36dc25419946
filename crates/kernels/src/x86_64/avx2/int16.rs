//! Products of 16-bit integers with AVX2: 4 rows times 2 vectors of 8 columns.

use super::vector::Avx2;
use crate::ops::gemm::{PackSource, PackedGemm, Tile, int16, no_state};
use crate::simd;
use crate::simd::int16::{PairProducts, Words};
use std::arch::asm;
use std::arch::x86_64::*;

const ROWS: usize = 4;
const VECTORS: usize = 2;

/// With one instruction for both products and both sums.
pub(crate) static VNNI: PackedGemm = PackedGemm {
    rows: ROWS,
    cols: 8 * VECTORS,
    lanes: 8,
    words: int16::words,
    // A panel of B is then 16 KiB.
    block_k: 512,
    pack_a: pack,
    pack_b: pack,
    tile: tile_vnni,
    enter: no_state,
    leave: no_state,
};

/// With a multiplication and an addition.
pub(crate) static PLAIN: PackedGemm = PackedGemm { tile: tile_plain, ..VNNI };

#[target_feature(enable = "avx2,fma")]
unsafe fn pack(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX2; the caller's promise about the source.
    unsafe { simd::int16::pack(Avx2::new(), to, width, source) };
}

#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn tile_vnni(a: *const u32, b: *const u32, tile: &Tile) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX-VNNI; the caller's promise about panels and tile.
    unsafe { simd::int16::tile::<Avx2, Vnni, ROWS, VECTORS>(Avx2::new(), a, b, tile) };
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_plain(a: *const u32, b: *const u32, tile: &Tile) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX2; the caller's promise about panels and tile.
    unsafe { simd::int16::tile::<Avx2, Plain, ROWS, VECTORS>(Avx2::new(), a, b, tile) };
}

struct Vnni;

/// Assembly for the reason given in `avx512/int16.rs`.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn add_pair_products(mut sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the CPU has the instruction; it touches these registers alone.
    unsafe {
        asm!("{{vex}} vpdpwssd {}, {}, {}", inout(ymm_reg) sum, in(ymm_reg) a, in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

impl PairProducts<Avx2> for Vnni {
    #[inline(always)]
    unsafe fn add(_: Avx2, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { add_pair_products(sum, a, b) }
    }
}

struct Plain;

impl PairProducts<Avx2> for Plain {
    #[inline(always)]
    unsafe fn add(_: Avx2, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
    }
}

impl Words for Avx2 {
    type Words = __m256i;

    #[inline(always)]
    fn splat_word(self, x: u32) -> __m256i {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm256_set1_epi32(x as i32) }
    }

    #[inline(always)]
    fn largest_magnitude(self, largest: __m256i, x: __m256) -> __m256i {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fff_ffff));
            _mm256_max_epu32(largest, magnitude)
        }
    }

    #[inline(always)]
    fn round_pair(self, low: __m256, high: __m256) -> __m256i {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let high = _mm256_slli_epi32::<16>(_mm256_cvtps_epi32(high));
            _mm256_or_si256(_mm256_and_si256(_mm256_cvtps_epi32(low), _mm256_set1_epi32(0xffff)), high)
        }
    }

    #[inline(always)]
    fn largest_word(self, x: __m256i) -> u32 {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let four = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            let two = _mm_max_epu32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32::<1>(two))) as u32
        }
    }

    #[inline(always)]
    fn round_neighbours(self, first: __m256, second: __m256) -> __m256i {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            // Four of the first, four of the second, and so on.
            let mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(first), _mm256_cvtps_epi32(second));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed)
        }
    }

    #[inline(always)]
    fn words_to_f32(self, x: __m256i) -> __m256 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn prefetch_l2(self, at: *const u32) {
        // SAFETY: a hint is valid for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u32, x: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), x) };
    }

    #[inline(always)]
    unsafe fn store_low_words(self, to: *mut u32, x: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(x)) };
    }

    #[inline(always)]
    unsafe fn store_high_words(self, to: *mut u32, x: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), _mm256_extracti128_si256::<1>(x)) };
    }
}
