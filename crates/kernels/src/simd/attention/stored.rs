//! The two products of attention with keys and values as they are stored.

use super::super::lanes::{Lanes, for_lanes};
use super::super::{Element, Simd};
use super::{Product, ROWS, Visible};
use crate::ops::attention::{KEY_BLOCK, KV_GROUP, KeyBlock, Pair, TileKeys};
use half::f16;

/// Room for what one block's rows need on the way.
pub(super) type Scratch = [f32; ROWS * KEY_BLOCK];

/// Some rows of a tile meet one block of keys.
#[derive(Clone, Copy)]
pub(super) struct Meeting<'a> {
    pub rows: usize,
    pub dim: usize,
    pub block: &'a KeyBlock,
    pub visible: &'a Visible,
}

/// Keys and values of one head.
pub(super) trait Blocks: Copy {
    /// `scores [rows, 64] = q [rows, dim] K [dim, 64]` for the keys that are visible.
    fn scores<S: Simd>(
        self,
        s: S,
        scores: &mut [f32],
        q: &[f32],
        meeting: Meeting<'_>,
        scratch: &mut Scratch,
    );

    /// `out [rows, dim] += scores [rows, 64] V [64, dim]` over the keys that are visible.
    fn add_values<S: Simd>(
        self,
        s: S,
        out: &mut [f32],
        scores: &[f32],
        meeting: Meeting<'_>,
        scratch: &mut Scratch,
    );
}

impl<E: Element> Blocks for Pair<&[E]> {
    #[inline(always)]
    fn scores<S: Simd>(
        self,
        s: S,
        scores: &mut [f32],
        q: &[f32],
        Meeting { rows, dim, block, visible }: Meeting<'_>,
        _scratch: &mut Scratch,
    ) {
        let vectors = visible.vectors::<S>();
        let product = Product {
            shape: (rows, vectors.len(), dim),
            c: &mut scores[vectors.start..],
            c_stride: KEY_BLOCK,
            accumulate: false,
            a: q,
            a_strides: (dim, 1),
            b: &TileKeys::in_block(block, self.k, dim)[vectors.start..],
            b_stride: KEY_BLOCK,
            ahead: dim * KEY_BLOCK,
        };
        product.run(s);
    }

    #[inline(always)]
    fn add_values<S: Simd>(
        self,
        s: S,
        out: &mut [f32],
        scores: &[f32],
        Meeting { rows, dim, block, visible }: Meeting<'_>,
        _scratch: &mut Scratch,
    ) {
        let start = visible.keys.start;
        let product = Product {
            shape: (rows, dim, visible.keys.len()),
            c: out,
            c_stride: dim,
            accumulate: true,
            a: &scores[start..],
            a_strides: (KEY_BLOCK, 1),
            b: &TileKeys::in_block(block, self.v, dim)[start * dim..],
            b_stride: dim,
            ahead: dim * KEY_BLOCK,
        };
        product.run(s);
    }
}

/// Integers with a scale for each key and 32 dimensions.
#[derive(Clone, Copy)]
pub(super) struct Scaled<'a> {
    pub values: Pair<&'a [i8]>,
    pub scales: Pair<&'a [f16]>,
}

impl Blocks for Scaled<'_> {
    /// A product for each group of dimensions, scaled key by key and added up.
    #[inline(always)]
    fn scores<S: Simd>(
        self,
        s: S,
        scores: &mut [f32],
        q: &[f32],
        Meeting { rows, dim, block, visible }: Meeting<'_>,
        part: &mut Scratch,
    ) {
        let vectors = visible.vectors::<S>();
        let values = TileKeys::in_block(block, self.values.k, dim);
        let scales = TileKeys::in_block(block, self.scales.k, dim.div_ceil(KV_GROUP));
        for (group, scales) in scales.chunks_exact(KEY_BLOCK).enumerate() {
            let first = group * KV_GROUP;
            let product = Product {
                shape: (rows, vectors.len(), KV_GROUP.min(dim - first)),
                c: &mut part[vectors.start..],
                c_stride: KEY_BLOCK,
                accumulate: false,
                a: &q[first..],
                a_strides: (dim, 1),
                b: &values[first * KEY_BLOCK + vectors.start..],
                b_stride: KEY_BLOCK,
                ahead: dim * KEY_BLOCK,
            };
            product.run(s);
            let both = scores.chunks_exact_mut(KEY_BLOCK).zip(part.chunks_exact(KEY_BLOCK));
            for (scores, part) in both.take(rows) {
                let (scores, part) = (&mut scores[vectors.clone()], &part[vectors.clone()]);
                let scales = &scales[vectors.clone()];
                for_lanes!(S, scores.len(), |j, lanes| {
                    let product = s.mul(lanes.load(s, part, j), load_scales(s, scales, j));
                    let sum = if group == 0 { product } else { s.add(lanes.load(s, scores, j), product) };
                    lanes.store(s, scores, j, sum);
                });
            }
        }
    }

    /// A product for each group of dimensions, with the scores scaled key by key.
    #[inline(always)]
    fn add_values<S: Simd>(
        self,
        s: S,
        out: &mut [f32],
        scores: &[f32],
        Meeting { rows, dim, block, visible }: Meeting<'_>,
        scaled: &mut Scratch,
    ) {
        let (start, vectors) = (visible.keys.start, visible.vectors::<S>());
        let values = TileKeys::in_block(block, self.values.v, dim);
        let scales = TileKeys::in_block(block, self.scales.v, dim.div_ceil(KV_GROUP));
        for (group, scales) in scales.chunks_exact(KEY_BLOCK).enumerate() {
            let both = scaled.chunks_exact_mut(KEY_BLOCK).zip(scores.chunks_exact(KEY_BLOCK));
            for (scaled, scores) in both.take(rows) {
                let (scaled, scores) = (&mut scaled[vectors.clone()], &scores[vectors.clone()]);
                let scales = &scales[vectors.clone()];
                for_lanes!(S, scaled.len(), |j, lanes| {
                    lanes.store(s, scaled, j, s.mul(lanes.load(s, scores, j), load_scales(s, scales, j)));
                });
            }
            let first = group * KV_GROUP;
            let product = Product {
                shape: (rows, KV_GROUP.min(dim - first), visible.keys.len()),
                c: &mut out[first..],
                c_stride: dim,
                accumulate: true,
                a: &scaled[start..],
                a_strides: (KEY_BLOCK, 1),
                b: &values[start * dim + first..],
                b_stride: dim,
                ahead: dim * KEY_BLOCK,
            };
            product.run(s);
        }
    }
}

/// A vector of scales from `i` on.
#[inline(always)]
fn load_scales<S: Simd>(s: S, scales: &[f16], i: usize) -> S::F32 {
    let scales = &scales[i..i + S::LANES];
    // SAFETY: the slice has that many elements.
    unsafe { s.load_f16_ptr(scales.as_ptr()) }
}
