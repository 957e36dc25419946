//! The forward pass of a tile.

use super::super::Simd;
use super::super::exp::exp;
use super::super::lanes::{Lanes, for_lanes};
use super::{Product, ROWS, Visible};
use crate::ops::attention::{KEY_BLOCK, TileKeys, TileOutput};

/// Running maximum and sum of exponentials of the rows of a chunk.
struct State {
    max: [f32; ROWS],
    sum: [f32; ROWS],
}

#[inline(always)]
pub(crate) fn attention<S: Simd>(s: S, output: TileOutput<'_>, q: &[f32], keys: &TileKeys<'_>) {
    let dim = keys.head_dim;
    let mut scores = [0.0; ROWS * KEY_BLOCK];
    let mut positions = [0; ROWS];
    output.out.fill(0.0);
    let chunks = output.out.chunks_mut(ROWS * dim).zip(output.lse.chunks_mut(ROWS)).zip(q.chunks(ROWS * dim));
    for (chunk, ((out, lse), q)) in chunks.enumerate() {
        let rows = lse.len();
        let mut state = State { max: [f32::NEG_INFINITY; ROWS], sum: [0.0; ROWS] };
        for (i, position) in positions[..rows].iter_mut().enumerate() {
            *position = keys.position(chunk * ROWS + i);
        }
        for block in keys.blocks {
            let Some(visible) = Visible::new::<S>(keys, block, &positions[..rows]) else { continue };
            let (start, vectors) = (visible.keys.start, visible.vectors::<S>());
            let product = Product {
                shape: (rows, vectors.len(), dim),
                c: &mut scores[start..],
                c_stride: KEY_BLOCK,
                accumulate: false,
                a: q,
                a_strides: (dim, 1),
                b: &keys.k_block(block)[start..],
                b_stride: KEY_BLOCK,
                ahead: dim * KEY_BLOCK,
            };
            product.run(s);
            softmax(s, &mut scores[..rows * KEY_BLOCK], &mut state, &visible, out);
            let product = Product {
                shape: (rows, dim, visible.keys.len()),
                c: out,
                c_stride: dim,
                accumulate: true,
                a: &scores[start..],
                a_strides: (KEY_BLOCK, 1),
                b: &keys.v_block(block)[start * dim..],
                b_stride: dim,
                ahead: dim * KEY_BLOCK,
            };
            product.run(s);
        }
        finish(s, out, lse, &state);
    }
}

/// Turns the scores of a chunk into exponentials relative to the running maximum of each row, after bringing what was
/// summed so far to the new maximum.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32], state: &mut State, visible: &Visible, out: &mut [f32]) {
    let (vectors, rows) = (visible.vectors::<S>(), scores.len() / KEY_BLOCK);
    let dim = out.len() / rows;
    let mut correction = [0.0; ROWS];
    for (i, scores) in scores.chunks_exact_mut(KEY_BLOCK).enumerate() {
        visible.mask::<S>(scores, i, f32::NEG_INFINITY);
        let mut max = s.splat(f32::NEG_INFINITY);
        let scores = &scores[vectors.clone()];
        for_lanes!(S, scores.len(), |j, lanes| {
            max = s.max(lanes.load(s, scores, j), max);
        });
        let (old, new) = (state.max[i], s.largest(max).max(state.max[i]));
        correction[i] = if old == new { 0.0 } else { old - new };
        state.max[i] = new;
    }
    for_lanes!(S, rows, |i, lanes| {
        let factor = exp(s, lanes.load(s, &correction, i));
        lanes.store(s, &mut correction, i, factor);
    });
    for (i, scores) in scores.chunks_exact_mut(KEY_BLOCK).enumerate() {
        let scores = &mut scores[vectors.clone()];
        if !visible.any(i) {
            scores.fill(0.0);
            continue;
        }
        let (shift, mut sum) = (s.splat(state.max[i]), s.splat(0.0));
        for_lanes!(S, scores.len(), |j, lanes| {
            let p = exp(s, s.sub(lanes.load(s, scores, j), shift));
            sum = s.add(sum, p);
            lanes.store(s, scores, j, p);
        });
        state.sum[i] = state.sum[i] * correction[i] + s.sum(sum);
        if correction[i] != 1.0 {
            scale(s, &mut out[i * dim..(i + 1) * dim], correction[i]);
        }
    }
}

/// Divides by the sums; a row that saw nothing keeps its zeros.
#[inline(always)]
fn finish<S: Simd>(s: S, out: &mut [f32], lse: &mut [f32], state: &State) {
    let dim = out.len() / lse.len();
    for (i, lse) in lse.iter_mut().enumerate() {
        let (max, sum) = (state.max[i], state.sum[i]);
        if sum == 0.0 {
            *lse = f32::NEG_INFINITY;
        } else {
            *lse = max + sum.ln();
            scale(s, &mut out[i * dim..(i + 1) * dim], 1.0 / sum);
        }
    }
}

#[inline(always)]
fn scale<S: Simd>(s: S, x: &mut [f32], factor: f32) {
    let factor = s.splat(factor);
    for_lanes!(S, x.len(), |i, lanes| {
        lanes.store(s, x, i, s.mul(lanes.load(s, x, i), factor));
    });
}
