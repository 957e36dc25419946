//! Products of 16-bit integers: packing groups of K with their scales, and the inner loop.

use super::Simd;
use super::gemm::{prefetch, store};
use crate::ops::gemm::int16::{self, GROUP, GroupScale};
use crate::ops::gemm::{PackSource, Tile};

/// Steps of K between two looks at how many are left.
const UNROLLED: usize = 4;

/// Vectors of 32-bit words beside those of f32.
pub(crate) trait Words: Simd {
    /// As many words as a vector has f32.
    type Words: Copy;

    fn splat_word(self, x: u32) -> Self::Words;
    /// The larger of each lane's largest magnitude so far, as the bits of an f32, and that of `x`.
    fn largest_magnitude(self, largest: Self::Words, x: Self::F32) -> Self::Words;
    /// The integers nearest to `low` and `high`, which fit in 16 bits, in the halves of each word.
    fn round_pair(self, low: Self::F32, high: Self::F32) -> Self::Words;
    /// Each word as a signed integer.
    fn words_to_f32(self, x: Self::Words) -> Self::F32;

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
    while left > 0 {
        let pairs = (left - 1).min(GROUP / 2);
        let mut products = [[s.splat_word(0); VECTORS]; ROWS];
        for _ in 0..pairs / UNROLLED {
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

/// The f32 values of a vector's lanes in one group of K: `[depth][LANES]`.
#[repr(align(64))]
struct Group([f32; GROUP * 16]);

/// Packs panels of `width` lanes that fill `to`; lanes and depth that the source lacks are zero. Panels are a multiple of a
/// vector's lanes, or half of them.
///
/// # Safety
/// All elements of the source can be read.
#[inline(always)]
pub(crate) unsafe fn pack<S: Words>(s: S, to: &mut [u32], width: usize, source: &PackSource) {
    const { assert!(S::LANES <= 16) };
    let words = to.len() / source.lanes.next_multiple_of(width);
    assert!(words == int16::words(source.depth) && (width.is_multiple_of(S::LANES) || 2 * width == S::LANES));
    let mut group = Group([0.0; GROUP * 16]);
    for (index, first) in (0..source.depth).step_by(GROUP).enumerate() {
        let depth = GROUP.min(source.depth - first);
        for lane in (0..source.lanes.next_multiple_of(width)).step_by(S::LANES) {
            // SAFETY: the caller's promise.
            let (from, stride) = unsafe { values_of_group(s, &mut group, source, (lane, first, depth)) };
            let start = (lane / width * words + index * (GROUP / 2 + 1)) * width + lane % width;
            let mut places = Places { to: &mut to[start..], width, panel: words * width };
            // SAFETY: `depth` rows of `LANES` values, `stride` apart, can be read.
            unsafe { quantize(s, &mut places, from, stride, depth) };
        }
    }
}

/// Where the rows of lanes start and how far they are apart: in the source where lanes are contiguous, else copied to `group`.
///
/// # Safety
/// All elements of the source can be read.
#[inline(always)]
unsafe fn values_of_group<S: Words>(
    s: S,
    group: &mut Group,
    source: &PackSource,
    (lane, first, depth): (usize, usize, usize),
) -> (*const f32, usize) {
    let from = source.data.wrapping_add(lane * source.lane_stride + first * source.k_stride);
    let lanes = S::LANES.min(source.lanes - lane);
    if lanes == S::LANES && source.lane_stride == 1 {
        return (from, source.k_stride);
    }
    let whole = if lanes == S::LANES && source.k_stride == 1 { depth / S::LANES * S::LANES } else { 0 };
    for k in (0..whole).step_by(S::LANES) {
        let to = &mut group.0[k * S::LANES..][..S::LANES * S::LANES];
        // SAFETY: a square of elements lies inside the source and inside `to` (just sliced).
        unsafe { s.transpose_ptr(from.add(k), source.lane_stride, to.as_mut_ptr(), S::LANES) };
    }
    for k in whole..depth {
        let row = &mut group.0[k * S::LANES..][..S::LANES];
        row.fill(0.0);
        for (i, value) in row.iter_mut().take(lanes).enumerate() {
            // SAFETY: this element lies inside the source.
            *value = unsafe { *from.add(i * source.lane_stride + k * source.k_stride) };
        }
    }
    (group.0.as_ptr(), S::LANES)
}

/// Where the words of a vector's lanes go.
struct Places<'a> {
    /// From the first word of the group's first lane on.
    to: &'a mut [u32],
    width: usize,
    /// Words from a panel to the next.
    panel: usize,
}

impl Places<'_> {
    /// Stores the word `index` of each lane; lanes beyond the last panel are dropped.
    #[inline(always)]
    fn store<S: Words>(&mut self, s: S, index: usize, x: S::Words) {
        let (start, half) = (index * self.width, S::LANES / 2);
        // SAFETY: each slice has room for what is stored.
        unsafe {
            if self.width >= S::LANES {
                return s.store_words(self.to[start..][..S::LANES].as_mut_ptr(), x);
            }
            s.store_low_words(self.to[start..][..half].as_mut_ptr(), x);
            if let Some(to) = self.to.get_mut(self.panel + start..self.panel + start + half) {
                s.store_high_words(to.as_mut_ptr(), x);
            }
        }
    }
}

/// Turns a group of values into integers and a scale for each lane.
///
/// # Safety
/// `depth` rows of `LANES` values, `stride` apart, can be read.
#[inline(always)]
unsafe fn quantize<S: Words>(s: S, places: &mut Places<'_>, from: *const f32, stride: usize, depth: usize) {
    let mut largest = s.splat_word(0);
    for k in 0..depth {
        // SAFETY: the caller's promise.
        largest = s.largest_magnitude(largest, unsafe { s.load_ptr(from.add(k * stride)) });
    }
    let (mut words, mut scales, mut inverses) = ([0; 16], [0.0; 16], [0.0; 16]);
    // SAFETY: there is room for 16 and a vector has at most as many; the vector of inverses is read back.
    let inverse = unsafe {
        s.store_words(words.as_mut_ptr(), largest);
        for (i, &largest) in words.iter().enumerate().take(S::LANES) {
            let group = GroupScale::new(largest);
            (scales[i], inverses[i]) = (group.scale, group.inverse);
        }
        s.load_ptr(inverses.as_ptr())
    };
    // A value that is not finite has a scale that says so; its integer is anything.
    for pair in 0..depth / 2 {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe {
            (s.load_ptr(from.add(2 * pair * stride)), s.load_ptr(from.add((2 * pair + 1) * stride)))
        };
        places.store(s, pair, s.round_pair(s.mul(low, inverse), s.mul(high, inverse)));
    }
    if !depth.is_multiple_of(2) {
        // SAFETY: the caller's promise.
        let low = unsafe { s.load_ptr(from.add((depth - 1) * stride)) };
        places.store(s, depth / 2, s.round_pair(s.mul(low, inverse), s.splat(0.0)));
    }
    // SAFETY: 16 scales, as words.
    let scales = unsafe { s.load_words(scales.as_ptr().cast()) };
    places.store(s, depth.div_ceil(2), scales);
}
