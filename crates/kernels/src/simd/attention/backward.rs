//! The backward pass of a tile; formulas in `scalar/attention.rs`.
//!
//! ```text
//! for each key block: V^T and K^T
//!     for each chunk of rows:
//!         P = exp(Q K^T - lse)      dS = P * (dO V^T - delta)
//!         dV += P^T dO      dK += dS^T Q      dQ += dS K
//! ```

use super::super::Simd;
use super::super::exp::exp;
use super::super::lanes::{Lanes, dot, for_lanes};
use super::{Product, ROWS, Visible};
use crate::ops::attention::{KEY_BLOCK, KeyBlock, Pair, Stored, TileGrads, TileKeys, TileSaved};
use std::cell::RefCell;

thread_local! {
    /// Kept from tile to tile.
    static WORK: RefCell<Work> = RefCell::default();
}

/// Memory of one tile, and one chunk of its rows at a time.
#[derive(Default)]
struct Work {
    /// `[ROWS, 64]`: scores, then probabilities.
    p: Vec<f32>,
    /// `[ROWS, 64]`: gradients of probabilities, then of scores.
    ds: Vec<f32>,
    /// `[Hd, 64]`.
    v_t: Vec<f32>,
    /// `[64, Hd]`.
    k_t: Vec<f32>,
    /// `[M]`: `dout . out` of each row.
    delta: Vec<f32>,
    /// `[M]`.
    positions: Vec<i64>,
}

#[inline(always)]
pub(crate) fn attention_backward<S: Simd>(
    s: S,
    grads: TileGrads<'_>,
    saved: &TileSaved<'_>,
    keys: &TileKeys<'_>,
) {
    let (dim, rows) = (keys.head_dim, saved.lse.len());
    let Stored::F32(Pair { k, v }) = keys.stored else {
        unreachable!("`Cpu::attention_backward` asks for f32")
    };
    let mut work = WORK.take();
    work.positions.clear();
    work.positions.extend((0..rows).map(|i| keys.position(i)));
    for (memory, len) in [(&mut work.p, ROWS * KEY_BLOCK), (&mut work.ds, ROWS * KEY_BLOCK)] {
        memory.resize(len, 0.0);
    }
    for memory in [&mut work.v_t, &mut work.k_t] {
        memory.resize(dim * KEY_BLOCK, 0.0);
    }
    work.delta.resize(rows, 0.0);
    for (i, delta) in work.delta.iter_mut().enumerate() {
        *delta = dot(s, &saved.dout[i * dim..(i + 1) * dim], &saved.out[i * dim..(i + 1) * dim]);
    }
    grads.dq.fill(0.0);
    for block in keys.blocks {
        let (k_block, v_block) = (TileKeys::in_block(block, k, dim), TileKeys::in_block(block, v, dim));
        transpose(s, v_block, &mut work.v_t, KEY_BLOCK);
        transpose(s, k_block, &mut work.k_t, dim);
        for start in (0..rows).step_by(ROWS) {
            let end = rows.min(start + ROWS);
            let Some(visible) = Visible::new::<S>(keys, block, &work.positions[start..end]) else { continue };
            let chunk = TileSaved {
                q: &saved.q[start * dim..end * dim],
                out: &[],
                dout: &saved.dout[start * dim..end * dim],
                lse: &saved.lse[start..end],
            };
            probabilities(s, &mut work, start, &chunk, k_block, &visible);
            let dq = &mut grads.dq[start * dim..end * dim];
            add_gradients(s, &work, (dq, grads.dk, grads.dv), &chunk, block, &visible);
        }
    }
    WORK.set(work);
}

/// Fills `work.p` and `work.ds` for the rows of a chunk, the first of which is row `start` of the tile.
#[inline(always)]
fn probabilities<S: Simd>(
    s: S,
    work: &mut Work,
    start: usize,
    chunk: &TileSaved<'_>,
    k_block: &[f32],
    visible: &Visible,
) {
    let (rows, dim, vectors) = (chunk.lse.len(), chunk.q.len() / chunk.lse.len(), visible.vectors::<S>());
    let operands = [(&mut work.p, chunk.q, k_block), (&mut work.ds, chunk.dout, &work.v_t[..])];
    for (c, a, b) in operands {
        let product = Product {
            shape: (rows, vectors.len(), dim),
            c: &mut c[vectors.start..],
            c_stride: KEY_BLOCK,
            accumulate: false,
            a,
            a_strides: (dim, 1),
            b: &b[vectors.start..],
            b_stride: KEY_BLOCK,
            ahead: 0,
        };
        product.run(s);
    }
    let chunks = work.p.chunks_exact_mut(KEY_BLOCK).zip(work.ds.chunks_exact_mut(KEY_BLOCK));
    for (i, (p, ds)) in chunks.take(rows).enumerate() {
        visible.mask::<S>(p, i, f32::NEG_INFINITY);
        let (p, ds) = (&mut p[vectors.clone()], &mut ds[vectors.clone()]);
        if !visible.any(i) {
            p.fill(0.0);
            ds.fill(0.0);
            continue;
        }
        let (lse, delta) = (s.splat(chunk.lse[i]), s.splat(work.delta[start + i]));
        for_lanes!(S, p.len(), |j, lanes| {
            let probability = exp(s, s.sub(lanes.load(s, p, j), lse));
            lanes.store(s, p, j, probability);
            lanes.store(s, ds, j, s.mul(probability, s.sub(lanes.load(s, ds, j), delta)));
        });
    }
}

/// Adds what one chunk and one key block give to the gradients.
#[inline(always)]
fn add_gradients<S: Simd>(
    s: S,
    work: &Work,
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
    chunk: &TileSaved<'_>,
    block: &KeyBlock,
    visible: &Visible,
) {
    let (rows, dim, keys) = (chunk.lse.len(), chunk.q.len() / chunk.lse.len(), &visible.keys);
    let first = (block.first_position as usize + keys.start) * dim;
    let span = first..first + keys.len() * dim;
    for (c, a, b) in [(dv, &work.p, chunk.dout), (dk, &work.ds, chunk.q)] {
        let product = Product {
            shape: (keys.len(), dim, rows),
            c: &mut c[span.clone()],
            c_stride: dim,
            accumulate: true,
            a: &a[keys.start..],
            a_strides: (1, KEY_BLOCK),
            b,
            b_stride: dim,
            ahead: 0,
        };
        product.run(s);
    }
    let product = Product {
        shape: (rows, dim, keys.len()),
        c: dq,
        c_stride: dim,
        accumulate: true,
        a: &work.ds[keys.start..],
        a_strides: (KEY_BLOCK, 1),
        b: &work.k_t[keys.start * dim..],
        b_stride: dim,
        ahead: 0,
    };
    product.run(s);
}

/// `to [cols, rows]` becomes the transpose of `from [rows, cols]`, with `rows` given.
#[inline(always)]
fn transpose<S: Simd>(s: S, from: &[f32], to: &mut [f32], rows: usize) {
    let cols = from.len() / rows;
    assert!(from.len() == rows * cols && to.len() == rows * cols);
    let (whole_rows, whole_cols) = (rows / S::LANES * S::LANES, cols / S::LANES * S::LANES);
    for i in (0..whole_rows).step_by(S::LANES) {
        for j in (0..whole_cols).step_by(S::LANES) {
            // SAFETY: the square lies inside both matrices.
            unsafe {
                let (from, to) = (from.as_ptr().add(i * cols + j), to.as_mut_ptr().add(j * rows + i));
                s.transpose_ptr(from, cols, to, rows);
            }
        }
    }
    for i in 0..rows {
        let rest = if i < whole_rows { whole_cols..cols } else { 0..cols };
        for j in rest {
            to[j * rows + i] = from[i * cols + j];
        }
    }
}
