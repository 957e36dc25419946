//! Products of 16-bit integers with AVX-512: 8 rows times 3 vectors of 16 columns.

use super::vector::Avx512;
use crate::ops::gemm::{PackSource, PackedGemm, Tile, int16, no_state};
use crate::simd;
use crate::simd::int16::{PairProducts, Words};
use std::arch::asm;
use std::arch::x86_64::*;

const ROWS: usize = 8;
const VECTORS: usize = 3;

/// With one instruction for both products and both sums.
pub(crate) static VNNI: PackedGemm = PackedGemm {
    rows: ROWS,
    cols: 16 * VECTORS,
    lanes: 16,
    words: int16::words,
    // A panel of B is then 37 KiB.
    block_k: 384,
    pack_a: pack,
    pack_b: pack,
    tile: tile_vnni,
    enter: no_state,
    leave: no_state,
};

/// With a multiplication and an addition.
pub(crate) static BW: PackedGemm = PackedGemm { tile: tile_bw, ..VNNI };

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack(to: &mut [u32], width: usize, source: &PackSource) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512; the caller's promise about the source.
    unsafe { simd::int16::pack(Avx512::new(), to, width, source) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn tile_vnni(a: *const u32, b: *const u32, tile: &Tile) {
    // SAFETY: compiled for, and so only called on, a CPU with VNNI; the caller's promise about panels and tile.
    unsafe { simd::int16::tile::<Avx512, Vnni, ROWS, VECTORS>(Avx512::new(), a, b, tile) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn tile_bw(a: *const u32, b: *const u32, tile: &Tile) {
    // SAFETY: compiled for, and so only called on, a CPU with AVX-512; the caller's promise about panels and tile.
    unsafe { simd::int16::tile::<Avx512, Bw, ROWS, VECTORS>(Avx512::new(), a, b, tile) };
}

struct Vnni;

/// The compiler would take the intrinsic apart again, into a multiplication and an addition, where several follow each other,
/// because that shortens the chain; here there are chains enough.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_pair_products(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the CPU has the instruction; it touches these registers alone.
    unsafe {
        asm!("vpdpwssd {}, {}, {}", inout(zmm_reg) sum, in(zmm_reg) a, in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

impl PairProducts<Avx512> for Vnni {
    #[inline(always)]
    unsafe fn add(_: Avx512, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { add_pair_products(sum, a, b) }
    }
}

struct Bw;

impl PairProducts<Avx512> for Bw {
    #[inline(always)]
    unsafe fn add(_: Avx512, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)) }
    }
}

impl Words for Avx512 {
    type Words = __m512i;

    #[inline(always)]
    fn splat_word(self, x: u32) -> __m512i {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm512_set1_epi32(x as i32) }
    }

    #[inline(always)]
    fn largest_magnitude(self, largest: __m512i, x: __m512) -> __m512i {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fff_ffff));
            _mm512_max_epu32(largest, magnitude)
        }
    }

    #[inline(always)]
    fn round_pair(self, low: __m512, high: __m512) -> __m512i {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let high = _mm512_slli_epi32::<16>(_mm512_cvtps_epi32(high));
            _mm512_or_si512(_mm512_and_si512(_mm512_cvtps_epi32(low), _mm512_set1_epi32(0xffff)), high)
        }
    }

    #[inline(always)]
    fn largest_word(self, x: __m512i) -> u32 {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { _mm512_reduce_max_epu32(x) }
    }

    #[inline(always)]
    fn round_neighbours(self, first: __m512, second: __m512) -> __m512i {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            // Four of the first, four of the second, and so on.
            let mixed = _mm512_packs_epi32(_mm512_cvtps_epi32(first), _mm512_cvtps_epi32(second));
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), mixed)
        }
    }

    #[inline(always)]
    fn words_to_f32(self, x: __m512i) -> __m512 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn prefetch_l2(self, at: *const u32) {
        // SAFETY: a hint is valid for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u32, x: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), x) };
    }

    #[inline(always)]
    unsafe fn store_low_words(self, to: *mut u32, x: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(x)) };
    }

    #[inline(always)]
    unsafe fn store_high_words(self, to: *mut u32, x: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_extracti32x8_epi32::<1>(x)) };
    }
}
