//! Products of 16-bit integers: vectors of words, and the inner loop.

mod pack;

pub(crate) use pack::pack;

use super::Simd;
use super::gemm::{prefetch, store};
use crate::ops::gemm::int16::GROUP;
use crate::ops::gemm::{LINE_WORDS, Tile};

/// Steps of K between two looks at how many are left.
const UNROLLED: usize = 4;

/// Vectors of 32-bit words beside those of f32.
pub(crate) trait Words: Simd {
    /// As many words as a vector has f32.
    type Words: Copy;

    fn splat_word(self, x: u32) -> Self::Words;
    /// The larger of each lane's largest magnitude so far, as the bits of an f32, and that of `x`.
    fn largest_magnitude(self, largest: Self::Words, x: Self::F32) -> Self::Words;
    /// The largest word, as an unsigned number.
    fn largest_word(self, x: Self::Words) -> u32;
    /// The integers nearest to `low` and `high`, which fit in 16 bits, in the halves of each word.
    fn round_pair(self, low: Self::F32, high: Self::F32) -> Self::Words;
    /// The integers nearest to the lanes of `first`, then of `second`, which fit in 16 bits, two neighbours in a word.
    fn round_neighbours(self, first: Self::F32, second: Self::F32) -> Self::Words;
    /// Each word as a signed integer.
    fn words_to_f32(self, x: Self::Words) -> Self::F32;
    /// A hint that the cache line at an address, valid or not, is soon to be used.
    fn prefetch_l2(self, at: *const u32);

    /// # Safety
    /// `LANES` words can be read.
    unsafe fn load_words(self, from: *const u32) -> Self::Words;
    /// # Safety
    /// `LANES` words can be written.
    unsafe fn store_words(self, to: *mut u32, x: Self::Words);
    /// The first half of the words.
    ///
    /// # Safety
    /// `LANES / 2` words can be written.
    unsafe fn store_low_words(self, to: *mut u32, x: Self::Words);
    /// The second half of the words.
    ///
    /// # Safety
    /// `LANES / 2` words can be written.
    unsafe fn store_high_words(self, to: *mut u32, x: Self::Words);
}

/// How pairs of 16-bit integers are multiplied and summed.
pub(crate) trait PairProducts<S: Words> {
    /// `sum + a.low * b.low + a.high * b.high` in each lane.
    ///
    /// # Safety
    /// The CPU has the instruction.
    unsafe fn add(s: S, sum: S::Words, a: S::Words, b: S::Words) -> S::Words;
}

/// `C (+)= A B` for one panel of `A` and one of `B`, group by group of K.
///
/// # Safety
/// As [`crate::ops::gemm::TileFn`]; the CPU has the instructions of `P`.
#[inline(always)]
pub(crate) unsafe fn tile<S: Words, P: PairProducts<S>, const ROWS: usize, const VECTORS: usize>(
    s: S,
    a: *const u32,
    b: *const u32,
    tile: &Tile,
) {
    // SAFETY: the caller's promise; the width of the panel is that of the columns rounded up to vectors.
    unsafe {
        match tile.cols.div_ceil(S::LANES) {
            1 => block::<S, P, ROWS, 1>(s, a, b, tile),
            2 => block::<S, P, ROWS, 2>(s, a, b, tile),
            _ => block::<S, P, ROWS, VECTORS>(s, a, b, tile),
        }
    }
}

/// # Safety
/// As [`tile`], with panels of `B` of `VECTORS` vectors.
#[inline(always)]
unsafe fn block<S: Words, P: PairProducts<S>, const ROWS: usize, const VECTORS: usize>(
    s: S,
    mut a: *const u32,
    mut b: *const u32,
    tile: &Tile,
) {
    prefetch::<S, ROWS, VECTORS>(s, tile);
    let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
    let mut left = tile.words;
    let (mut ahead, asked) = (tile.ahead.line, tile.ahead.count.div_ceil((left / UNROLLED).max(1)));
    while left > 0 {
        let pairs = (left - 1).min(GROUP / 2);
        let mut products = [[s.splat_word(0); VECTORS]; ROWS];
        for _ in 0..pairs / UNROLLED {
            for _ in 0..asked {
                s.prefetch_l2(ahead);
                ahead = ahead.wrapping_add(LINE_WORDS);
            }
            for _ in 0..UNROLLED {
                // SAFETY: the panels hold `pairs` steps of `ROWS` and `VECTORS * LANES` words.
                unsafe { step::<S, P, ROWS, VECTORS>(s, &mut products, a, b) };
                (a, b) = (a.wrapping_add(ROWS), b.wrapping_add(VECTORS * S::LANES));
            }
        }
        for _ in 0..pairs % UNROLLED {
            // SAFETY: as above.
            unsafe { step::<S, P, ROWS, VECTORS>(s, &mut products, a, b) };
            (a, b) = (a.wrapping_add(ROWS), b.wrapping_add(VECTORS * S::LANES));
        }
        // SAFETY: after its pairs a group has a scale for each lane.
        unsafe { add_scaled(s, &mut sums, &products, a.cast(), b.cast()) };
        (a, b) = (a.wrapping_add(ROWS), b.wrapping_add(VECTORS * S::LANES));
        left -= pairs + 1;
    }
    // SAFETY: the caller's promise about `C`.
    unsafe { store(s, sums, tile) };
}

/// One pair of K.
///
/// # Safety
/// `ROWS` words can be read from `a`, `VECTORS * LANES` from `b`; the CPU has the instructions of `P`.
#[inline(always)]
unsafe fn step<S: Words, P: PairProducts<S>, const ROWS: usize, const VECTORS: usize>(
    s: S,
    products: &mut [[S::Words; VECTORS]; ROWS],
    a: *const u32,
    b: *const u32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [s.splat_word(0); VECTORS];
        for (v, column) in columns.iter_mut().enumerate() {
            *column = s.load_words(b.add(v * S::LANES));
        }
        for (r, products) in products.iter_mut().enumerate() {
            let factor = s.splat_word(*a.add(r));
            for (product, &column) in products.iter_mut().zip(&columns) {
                *product = P::add(s, *product, factor, column);
            }
        }
    }
}

/// `sums += products * scale of the row * scale of the column`.
///
/// # Safety
/// `ROWS` scales can be read from `a`, `VECTORS * LANES` from `b`.
#[inline(always)]
unsafe fn add_scaled<S: Words, const ROWS: usize, const VECTORS: usize>(
    s: S,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    products: &[[S::Words; VECTORS]; ROWS],
    a: *const f32,
    b: *const f32,
) {
    for (r, (sums, products)) in sums.iter_mut().zip(products).enumerate() {
        // SAFETY: the caller's promise.
        let row = s.splat(unsafe { *a.add(r) });
        for (v, (sum, &product)) in sums.iter_mut().zip(products).enumerate() {
            // SAFETY: the caller's promise.
            let scale = s.mul(row, unsafe { s.load_ptr(b.add(v * S::LANES)) });
            *sum = s.mul_add(s.words_to_f32(product), scale, *sum);
        }
    }
}
