//! Attention of one tile, row by row over its visible keys; formulas at `ops/attention`.
//!
//! Backward, with `p_j = exp(s_j - lse)` and `delta = dout . out`:
//! `dv_j += p_j dout`, `ds_j = p_j (dout . v_j - delta)`, `dq = sum_j ds_j k_j`, `dk_j += ds_j q` (`q` is scaled).

use crate::ops::attention::{KEY_BLOCK, Pair, TileGrads, TileKeys, TilePart, TileSaved};
use std::borrow::Cow;

/// One key that a row sees: where its elements are and its position.
struct Key<'a> {
    /// Element `d` at `64 d`.
    k: &'a [f32],
    /// `[Hd]`.
    v: &'a [f32],
    position: i64,
}

pub(super) fn attention(part: TilePart<'_>, q: &[f32], keys: &TileKeys<'_>) {
    let (dim, blocks) = (keys.head_dim, floats(keys));
    part.out.fill(0.0);
    for (i, (max, sum)) in part.max.iter_mut().zip(part.sum).enumerate() {
        let (q, out) = (&q[i * dim..(i + 1) * dim], &mut part.out[i * dim..(i + 1) * dim]);
        let scores: Vec<f32> = visible_keys(keys, &blocks, i).map(|key| score(q, &key)).collect();
        *max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        *sum = scores.iter().map(|s| (s - *max).exp()).sum::<f32>();
        for (key, s) in visible_keys(keys, &blocks, i).zip(&scores) {
            let p = (s - *max).exp();
            for (out, v) in out.iter_mut().zip(key.v) {
                *out += p * v;
            }
        }
    }
}

pub(super) fn attention_backward(grads: TileGrads<'_>, saved: &TileSaved<'_>, keys: &TileKeys<'_>) {
    let (dim, blocks) = (keys.head_dim, floats(keys));
    grads.dq.fill(0.0);
    for (i, lse) in saved.lse.iter().enumerate() {
        let row = i * dim..(i + 1) * dim;
        let (q, dout) = (&saved.q[row.clone()], &saved.dout[row.clone()]);
        let delta = dot(dout, &saved.out[row.clone()]);
        let dq = &mut grads.dq[row];
        for key in visible_keys(keys, &blocks, i) {
            let p = (score(q, &key) - lse).exp();
            let ds = p * (dot(dout, key.v) - delta);
            let target = key.position as usize * dim;
            for d in 0..dim {
                dq[d] += ds * key.k[d * KEY_BLOCK];
                grads.dk[target + d] += ds * q[d];
                grads.dv[target + d] += p * dout[d];
            }
        }
    }
}

/// Keys and values of the blocks as floats.
type Blocks<'a> = Vec<Pair<Cow<'a, [f32]>>>;

fn floats<'a>(keys: &TileKeys<'a>) -> Blocks<'a> {
    keys.blocks.iter().map(|block| keys.floats(block)).collect()
}

/// The keys that query row `i` of the tile sees, in the order of the blocks.
fn visible_keys<'a>(
    keys: &'a TileKeys<'_>,
    blocks: &'a Blocks<'_>,
    i: usize,
) -> impl Iterator<Item = Key<'a>> {
    let dim = keys.head_dim;
    keys.blocks.iter().zip(blocks).flat_map(move |(block, floats)| {
        keys.visible(block, keys.position(i)).map(move |j| Key {
            k: &floats.k[j..],
            v: &floats.v[j * dim..(j + 1) * dim],
            position: block.first_position + j as i64,
        })
    })
}

fn score(q: &[f32], key: &Key<'_>) -> f32 {
    q.iter().zip(key.k.iter().step_by(KEY_BLOCK)).map(|(q, k)| q * k).sum()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
