//! The forward pass of a tile.

use super::super::Simd;
use super::super::exp::exp;
use super::super::lanes::{Lanes, for_lanes};
use super::stored::{Blocks, Meeting, Scaled, Scratch};
use super::{ROWS, Visible};
use crate::ops::attention::{KEY_BLOCK, Stored, TileKeys, TilePart};

/// Running maximum and sum of exponentials of the rows of a chunk.
struct State {
    max: [f32; ROWS],
    sum: [f32; ROWS],
}

#[inline(always)]
pub(crate) fn attention<S: Simd>(s: S, part: TilePart<'_>, q: &[f32], keys: &TileKeys<'_>) {
    match keys.stored {
        Stored::F32(pair) => sums(s, part, q, keys, pair),
        Stored::F16(pair) => sums(s, part, q, keys, pair),
        Stored::Q8_0 { values, scales } => sums(s, part, q, keys, Scaled { values, scales }),
    }
}

#[inline(always)]
fn sums<S: Simd, B: Blocks>(s: S, part: TilePart<'_>, q: &[f32], keys: &TileKeys<'_>, blocks: B) {
    let dim = keys.head_dim;
    let (mut scores, mut scratch): (Scratch, Scratch) = ([0.0; _], [0.0; _]);
    let mut positions = [0; ROWS];
    part.out.fill(0.0);
    let stats = part.max.chunks_mut(ROWS).zip(part.sum.chunks_mut(ROWS));
    let chunks = part.out.chunks_mut(ROWS * dim).zip(stats).zip(q.chunks(ROWS * dim));
    for (chunk, ((out, (max, sum)), q)) in chunks.enumerate() {
        let rows = max.len();
        let mut state = State { max: [f32::NEG_INFINITY; ROWS], sum: [0.0; ROWS] };
        for (i, position) in positions[..rows].iter_mut().enumerate() {
            *position = keys.position(chunk * ROWS + i);
        }
        for block in keys.blocks {
            let Some(visible) = Visible::new::<S>(keys, block, &positions[..rows]) else { continue };
            let meeting = Meeting { rows, dim, block, visible: &visible };
            blocks.scores(s, &mut scores, q, meeting, &mut scratch);
            softmax(s, &mut scores[..rows * KEY_BLOCK], &mut state, &visible, out);
            blocks.add_values(s, out, &scores, meeting, &mut scratch);
        }
        max.copy_from_slice(&state.max[..rows]);
        sum.copy_from_slice(&state.sum[..rows]);
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

#[inline(always)]
fn scale<S: Simd>(s: S, x: &mut [f32], factor: f32) {
    let factor = s.splat(factor);
    for_lanes!(S, x.len(), |i, lanes| {
        lanes.store(s, x, i, s.mul(lanes.load(s, x, i), factor));
    });
}
