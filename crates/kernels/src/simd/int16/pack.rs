//! Turns groups of K into integers with their scales and copies them into panels.
//!
//! Both common layouts are read along contiguous memory. Where lanes are contiguous, rows of up to [`STRIP`] vectors of lanes
//! are gone through twice: for the largest magnitudes, then to round. Where K is contiguous, each lane's group is rounded
//! first, and squares of words (half as many as values) are transposed.

use super::Words;
use crate::ops::gemm::PackSource;
use crate::ops::gemm::int16::{self, GROUP, GroupScale};

/// Words of a lane from a full group to the next.
const GROUP_WORDS: usize = GROUP / 2 + 1;
/// Vectors of lanes that are packed together.
const STRIP: usize = 8;

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
    let mut panels = Panels { to, width, words };
    let whole = source.lanes / S::LANES * S::LANES;
    let squares = source.k_stride == 1 && source.depth.is_multiple_of(2 * S::LANES);
    // SAFETY: the caller's promise; these lanes are in the source.
    unsafe {
        let packed = if source.lane_stride == 1 {
            rows_of_lanes(s, &mut panels, source, whole);
            whole
        } else if squares {
            (0..whole).step_by(S::LANES).for_each(|lane| lanes_of_squares(s, &mut panels, source, lane));
            whole
        } else {
            0
        };
        for lane in (packed..source.lanes.next_multiple_of(width)).step_by(S::LANES) {
            single_values::<S>(&mut panels, source, lane);
        }
    }
}

/// The panels that are filled.
struct Panels<'a> {
    to: &'a mut [u32],
    width: usize,
    /// Of each lane.
    words: usize,
}

impl Panels<'_> {
    /// Where the group `index`, of `depth` values, of the lanes from `lane` on goes.
    #[inline(always)]
    fn places<S: Words>(&mut self, lane: usize, index: usize, depth: usize) -> Places {
        let start = (lane / self.width * self.words + index * GROUP_WORDS) * self.width + lane % self.width;
        let last = start + depth.div_ceil(2) * self.width;
        let (low, panel) = (self.to[start..].as_mut_ptr(), self.words * self.width);
        if self.width >= S::LANES {
            assert!(last + S::LANES <= self.to.len());
            return Places { low, high: std::ptr::null_mut(), width: self.width };
        }
        assert!(last + S::LANES / 2 <= self.to.len());
        let is_there = panel + last + S::LANES / 2 <= self.to.len();
        let high = if is_there { low.wrapping_add(panel) } else { std::ptr::null_mut() };
        Places { low, high, width: self.width }
    }
}

/// Where the words of a vector's lanes go in one group.
#[derive(Clone, Copy)]
struct Places {
    low: *mut u32,
    /// Where panels are half a vector wide: the next panel, if there is one.
    high: *mut u32,
    width: usize,
}

impl Places {
    /// Stores the word `index` of each lane; lanes beyond the last panel are dropped.
    ///
    /// # Safety
    /// `index` is at most the number of pairs that the places were made for.
    #[inline(always)]
    unsafe fn store<S: Words>(&self, s: S, index: usize, x: S::Words) {
        let at = index * self.width;
        // SAFETY: up to that index there is room (checked when the places were made).
        unsafe {
            if self.width >= S::LANES {
                return s.store_words(self.low.add(at), x);
            }
            s.store_low_words(self.low.add(at), x);
            if !self.high.is_null() {
                s.store_high_words(self.high.add(at), x);
            }
        }
    }

    /// Stores the word `index` of lane `i` alone.
    ///
    /// # Safety
    /// As [`store`](Self::store); `i` is a lane of a vector.
    #[inline(always)]
    unsafe fn set<S: Words>(&self, i: usize, index: usize, word: u32) {
        let (at, half) = (index * self.width, S::LANES / 2);
        // SAFETY: as in `store`.
        unsafe {
            if self.width >= S::LANES || i < half {
                *self.low.add(at + i) = word;
            } else if !self.high.is_null() {
                *self.high.add(at + i - half) = word;
            }
        }
    }
}

/// Packs the first `whole` lanes of a source whose lanes are contiguous, group by group of K.
///
/// # Safety
/// All elements of the source can be read; `whole` is a multiple of a vector's lanes.
#[inline(always)]
unsafe fn rows_of_lanes<S: Words>(s: S, panels: &mut Panels<'_>, source: &PackSource, whole: usize) {
    for (index, first) in (0..source.depth).step_by(GROUP).enumerate() {
        let depth = GROUP.min(source.depth - first);
        let mut lane = 0;
        while lane < whole {
            let from = source.data.wrapping_add(lane + first * source.k_stride);
            let place = (from, source.k_stride, depth);
            let left = (whole - lane) / S::LANES;
            // SAFETY: `depth` rows of the lanes that are left can be read.
            unsafe {
                lane += match left {
                    STRIP.. => strip::<S, STRIP>(s, panels, (lane, index), place),
                    4.. => strip::<S, 4>(s, panels, (lane, index), place),
                    2.. => strip::<S, 2>(s, panels, (lane, index), place),
                    _ => strip::<S, 1>(s, panels, (lane, index), place),
                };
            }
        }
    }
}

/// Packs a group of `VECTORS` vectors of lanes and returns the number of lanes.
///
/// # Safety
/// `depth` rows of as many values, `stride` apart, can be read from `from`.
#[inline(always)]
unsafe fn strip<S: Words, const VECTORS: usize>(
    s: S,
    panels: &mut Panels<'_>,
    (lane, index): (usize, usize),
    (from, stride, depth): (*const f32, usize, usize),
) -> usize {
    let mut largest = [s.splat_word(0); VECTORS];
    for k in 0..depth {
        for (v, largest) in largest.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *largest =
                s.largest_magnitude(*largest, unsafe { s.load_ptr(from.add(k * stride + v * S::LANES)) });
        }
    }
    let places: [Places; VECTORS] =
        std::array::from_fn(|v| panels.places::<S>(lane + v * S::LANES, index, depth));
    let mut inverses = [s.splat(0.0); VECTORS];
    for v in 0..VECTORS {
        // SAFETY: after its pairs a group has room for the scales.
        unsafe { inverses[v] = store_scales(s, &places[v], depth, largest[v]) };
    }
    // A value that is not finite has a scale that says so; its integer is anything.
    for pair in 0..depth / 2 {
        let row = from.wrapping_add(2 * pair * stride);
        for v in 0..VECTORS {
            // SAFETY: the caller's promise; `pair` is below the number of pairs.
            unsafe {
                let at = row.add(v * S::LANES);
                let (low, high) = (s.load_ptr(at), s.load_ptr(at.add(stride)));
                places[v].store(s, pair, s.round_pair(s.mul(low, inverses[v]), s.mul(high, inverses[v])));
            }
        }
    }
    if !depth.is_multiple_of(2) {
        for v in 0..VECTORS {
            // SAFETY: as above, of the last row.
            unsafe {
                let low = s.load_ptr(from.add((depth - 1) * stride + v * S::LANES));
                places[v].store(s, depth / 2, s.round_pair(s.mul(low, inverses[v]), s.splat(0.0)));
            }
        }
    }
    VECTORS * S::LANES
}

/// Stores the scales that follow from the largest magnitudes of a group of `depth` values; returns what its values are
/// multiplied by.
///
/// # Safety
/// The places were made for `depth` values.
#[inline(always)]
unsafe fn store_scales<S: Words>(s: S, places: &Places, depth: usize, largest: S::Words) -> S::F32 {
    let (mut words, mut scales, mut inverses) = ([0; 16], [0.0; 16], [0.0; 16]);
    // SAFETY: there is room for 16 and a vector has at most as many; a vector of scales and one of inverses are read back.
    unsafe {
        s.store_words(words.as_mut_ptr(), largest);
        for (i, &largest) in words.iter().enumerate().take(S::LANES) {
            let group = GroupScale::new(largest);
            (scales[i], inverses[i]) = (group.scale, group.inverse);
        }
        places.store(s, depth.div_ceil(2), s.load_words(scales.as_ptr().cast()));
        s.load_ptr(inverses.as_ptr())
    }
}

/// A square of words, or the words of one group for a vector of lanes.
#[repr(align(64))]
struct Lanes([u32; GROUP / 2 * 16]);

/// Packs every group of the vector of lanes from `lane` on.
///
/// # Safety
/// The source has these lanes, K is contiguous and a multiple of two vectors.
#[inline(always)]
unsafe fn lanes_of_squares<S: Words>(s: S, panels: &mut Panels<'_>, source: &PackSource, lane: usize) {
    const STRIDE: usize = GROUP / 2;
    let (mut lanes, mut square) = (Lanes([0; _]), Lanes([0; _]));
    for (index, first) in (0..source.depth).step_by(GROUP).enumerate() {
        let depth = GROUP.min(source.depth - first);
        let places = panels.places::<S>(lane, index, depth);
        let mut scales = [0.0; 16];
        for (i, (to, scale)) in lanes.0.chunks_exact_mut(STRIDE).zip(&mut scales).take(S::LANES).enumerate() {
            let from = source.data.wrapping_add((lane + i) * source.lane_stride + first);
            // SAFETY: `depth` values of this lane can be read; there is room for a full group's.
            unsafe { *scale = round_lane(s, to, from, depth) };
        }
        for start in (0..depth / 2).step_by(S::LANES) {
            // SAFETY: squares lie inside `lanes` and `square`; the words are those of pairs below `depth / 2`.
            unsafe {
                let (from, to) = (lanes.0.as_ptr().add(start), square.0.as_mut_ptr());
                if places.width >= S::LANES {
                    let to = places.low.add(start * places.width);
                    s.transpose_ptr(from.cast(), STRIDE, to.cast(), places.width);
                } else {
                    s.transpose_ptr(from.cast(), STRIDE, to.cast(), S::LANES);
                    for word in 0..S::LANES {
                        places.store(s, start + word, s.load_words(to.add(word * S::LANES)));
                    }
                }
            }
        }
        // SAFETY: after its pairs a group has room for the scales; there are 16.
        unsafe { places.store(s, depth / 2, s.load_words(scales.as_ptr().cast())) };
    }
}

/// Rounds a group of one lane to words in `to` and returns its scale.
///
/// # Safety
/// `depth` contiguous values, a multiple of two vectors and at most a group, can be read; `to` holds a group.
#[inline(always)]
unsafe fn round_lane<S: Words>(s: S, to: &mut [u32], from: *const f32, depth: usize) -> f32 {
    assert!(to.len() >= depth / 2);
    let mut largest = s.splat_word(0);
    for k in (0..depth).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        largest = s.largest_magnitude(largest, unsafe { s.load_ptr(from.add(k)) });
    }
    let GroupScale { scale, inverse } = GroupScale::new(s.largest_word(largest));
    let inverse = s.splat(inverse);
    for k in (0..depth).step_by(2 * S::LANES) {
        // SAFETY: the caller's promise; `depth / 2` words fit (checked).
        unsafe {
            let (first, second) = (s.load_ptr(from.add(k)), s.load_ptr(from.add(k + S::LANES)));
            let words = s.round_neighbours(s.mul(first, inverse), s.mul(second, inverse));
            s.store_words(to.as_mut_ptr().add(k / 2), words);
        }
    }
    scale
}

/// Packs every group of the vector of lanes from `lane` on, wherever its values stand; those beyond the source are zero.
///
/// # Safety
/// All elements of the source can be read.
#[inline(never)]
unsafe fn single_values<S: Words>(panels: &mut Panels<'_>, source: &PackSource, lane: usize) {
    let lanes = S::LANES.min(source.lanes - lane);
    for (index, first) in (0..source.depth).step_by(GROUP).enumerate() {
        let depth = GROUP.min(source.depth - first);
        let places = panels.places::<S>(lane, index, depth);
        for i in 0..S::LANES {
            let value = |k: usize| {
                let inside = i < lanes && k < depth;
                let at =
                    source.data.wrapping_add((lane + i) * source.lane_stride + (first + k) * source.k_stride);
                // SAFETY: an element inside the source.
                if inside { unsafe { *at } } else { 0.0 }
            };
            let largest = (0..depth).map(|k| value(k).to_bits() & 0x7fff_ffff).max().unwrap_or(0);
            let GroupScale { scale, inverse } = GroupScale::new(largest);
            // SAFETY: the pairs and the scale of the group have room in a lane that is not dropped.
            unsafe {
                for pair in 0..depth.div_ceil(2) {
                    let [low, high] =
                        [2 * pair, 2 * pair + 1].map(|k| (value(k) * inverse).round_ties_even() as i16);
                    places.set::<S>(i, pair, u32::from(low as u16) | u32::from(high as u16) << 16);
                }
                places.set::<S>(i, depth.div_ceil(2), scale.to_bits());
            }
        }
    }
}
